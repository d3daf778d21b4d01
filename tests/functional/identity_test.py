#!/usr/bin/python3
"""The Identity API through Debian's openstack client, unchanged: logging in, projects, users, roles,
application credentials, revocation, and what a tenant may not see."""
import contextlib
import os
import stat
import unittest
from unittest import mock

from cloud import Cloud


def forget_clients():
    """The client keeps its API objects, login included, in class attributes: fine for one command a process."""
    from openstackclient.common.clientmanager import ClientManager
    from osc_lib.clientmanager import ClientCache
    for owner in ClientManager.__mro__:
        for value in vars(owner).values():
            if isinstance(value, ClientCache):
                value._handle = None


@contextlib.contextmanager
def logged_in_with(login):
    """The environment of another user; clouds.yaml is the administrator's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
    with mock.patch.dict(os.environ, kept | login, clear=True):
        forget_clients()
        yield
    forget_clients()


class Identity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        cls.addClassCleanup(cls.cloud.remove)
        cls.cloud.start()
        cls.addClassCleanup(cls.cloud.stop)
        os_ = cls.cloud.openstack
        cls.blue = os_("project", "create", "blue", "-f", "json")["id"]
        cls.ann = os_("user", "create", "ann", "--password", "first", "-f", "json")["id"]
        os_("role", "add", "--project", "blue", "--user", "ann", "member")

    def os(self, *argv):
        return self.cloud.openstack(*argv)

    def as_user(self, name, password, project=None):
        login = {"OS_AUTH_URL": self.cloud.url("identity") + "/v3", "OS_USERNAME": name, "OS_PASSWORD": password,
                 "OS_USER_DOMAIN_ID": "default", "OS_IDENTITY_API_VERSION": "3"}
        if project:
            login |= {"OS_PROJECT_NAME": project, "OS_PROJECT_DOMAIN_ID": "default"}
        return logged_in_with(login)

    def test_token_issue_and_catalog(self):
        token = self.os("token", "issue", "-f", "json")
        self.assertTrue(token["expires"] and token["project_id"] and token["user_id"])
        catalog = {row["Type"]: row["Endpoints"] for row in self.os("catalog", "list", "-f", "json")}
        self.assertLessEqual({"identity", "compute", "image", "network"}, set(catalog))
        interfaces = {endpoint["interface"] for endpoint in catalog["compute"]}
        self.assertEqual(interfaces, {"public", "internal", "admin"})
        for command in ("service", "endpoint", "region", "domain"):
            self.assertTrue(self.os(command, "list", "-f", "json"), command)

    def test_wrong_password_is_401(self):
        with self.as_user("ann", "wrong", "blue"):
            self.assertIn("HTTP 401", self.cloud.refused("token", "issue"))

    def test_token_revoke(self):
        token = self.os("token", "issue", "-f", "json")["id"]
        path = "/v3/auth/projects"
        self.assertEqual(self.cloud.request("identity", "GET", path, token=token)[0], 200)
        self.assertEqual(self.cloud.request("api", "GET", "/v2.1/servers", token=token)[0], 200)
        self.os("token", "revoke", token)
        self.assertEqual(self.cloud.request("identity", "GET", path, token=token)[0], 401)
        self.assertEqual(self.cloud.request("api", "GET", "/v2.1/servers", token=token)[0], 401)

    def test_project_life(self):
        self.os("project", "create", "red", "--description", "d")
        self.assertEqual(self.os("project", "show", "red", "-f", "json")["description"], "d")
        self.os("project", "set", "red", "--name", "crimson", "--disable")
        self.assertFalse(self.os("project", "show", "crimson", "-f", "json")["enabled"])
        self.assertIn("crimson", {row["Name"] for row in self.os("project", "list", "-f", "json")})
        self.os("project", "delete", "crimson")
        self.assertIn("No project", self.cloud.refused("project", "show", "crimson"))

    def test_user_life(self):
        self.os("user", "create", "bob", "--password", "pw", "--project", "blue", "--email", "b@x")
        self.assertEqual(self.os("user", "show", "bob", "-f", "json")["email"], "b@x")
        self.os("user", "set", "bob", "--password", "other")
        with self.as_user("bob", "other"):
            self.assertTrue(self.os("token", "issue", "-f", "json")["id"])
        self.os("user", "set", "bob", "--disable")
        with self.as_user("bob", "other"):
            self.assertIn("HTTP 401", self.cloud.refused("token", "issue"))
        self.os("user", "delete", "bob")
        self.assertNotIn("bob", {row["Name"] for row in self.os("user", "list", "-f", "json")})

    def test_roles_and_assignments(self):
        self.os("role", "create", "auditor")
        self.assertIn("auditor", {row["Name"] for row in self.os("role", "list", "-f", "json")})
        self.assertEqual(self.os("role", "show", "auditor", "-f", "json")["name"], "auditor")
        self.os("role", "add", "--project", "blue", "--user", "ann", "auditor")
        rows = self.os("role", "assignment", "list", "--names", "--project", "blue", "--user", "ann", "-f", "json")
        self.assertEqual({row["Role"] for row in rows}, {"member", "auditor"})
        self.os("role", "remove", "--project", "blue", "--user", "ann", "auditor")
        implied = self.os("implied", "role", "list", "-f", "json")
        self.assertIn(("admin", "manager"), {(row["Prior Role Name"], row["Implied Role Name"]) for row in implied})
        self.os("role", "delete", "auditor")

    def test_application_credentials(self):
        with self.as_user("ann", "first", "blue"):
            made = self.os("application", "credential", "create", "ci", "--role", "reader", "-f", "json")
            names = {row["Name"] for row in self.os("application", "credential", "list", "-f", "json")}
            self.assertIn("ci", names)
        login = {"OS_AUTH_TYPE": "v3applicationcredential", "OS_AUTH_URL": self.cloud.url("identity") + "/v3",
                 "OS_APPLICATION_CREDENTIAL_ID": made["id"], "OS_APPLICATION_CREDENTIAL_SECRET": made["secret"]}
        with logged_in_with(login):
            self.assertEqual(self.os("token", "issue", "-f", "json")["project_id"], self.blue)
            self.assertEqual(self.os("server", "list", "-f", "json"), [])
            self.assertIn("403", self.cloud.refused("application", "credential", "create", "more"))
        with self.as_user("ann", "first", "blue"):
            self.os("application", "credential", "delete", "ci")
        with logged_in_with(login):
            self.assertIn("HTTP 401", self.cloud.refused("token", "issue"))

    def test_a_tenant_sees_itself_only(self):
        with self.as_user("ann", "first", "blue"):
            mine = self.os("project", "list", "--my-projects", "-f", "json")
            self.assertEqual([row["Name"] for row in mine], ["blue"])
            self.assertEqual(self.os("user", "show", self.ann, "-f", "json")["name"], "ann")
            for command in (("user", "list"), ("role", "list"), ("role", "assignment", "list"),
                            ("project", "create", "mine"), ("user", "create", "eve")):
                self.assertIn("403", self.cloud.refused(*command), command)

    def test_password_change_ends_tokens(self):
        self.os("user", "create", "carol", "--password", "one")
        self.os("role", "add", "--project", "blue", "--user", "carol", "reader")
        with self.as_user("carol", "one", "blue"):
            token = self.os("token", "issue", "-f", "json")["id"]
            self.os("user", "password", "set", "--password", "two", "--original-password", "one")
        self.assertEqual(self.cloud.request("identity", "GET", "/v3/auth/projects", token=token)[0], 401)
        with self.as_user("carol", "two", "blue"):
            self.assertTrue(self.os("token", "issue", "-f", "json")["id"])

    def test_credential_files_are_private(self):
        for name in ("admin-openrc", "clouds.yaml"):
            mode = stat.S_IMODE((self.cloud.state / name).stat().st_mode)
            self.assertEqual(mode, 0o600, name)

    def test_the_daemon_forgets_no_token(self):
        token = self.os("token", "issue", "-f", "json")["id"]
        self.cloud.stop()
        self.cloud.start()
        self.assertEqual(self.cloud.request("identity", "GET", "/v3/auth/projects", token=token)[0], 200)


if __name__ == "__main__":
    unittest.main()
