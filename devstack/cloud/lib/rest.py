"""A small client of the cloud's REST services (standard library only), for setting the cloud up and for tests.

    cloud = rest.Cloud("http://10.250.0.1:5000/v3", "admin", "secret", "admin")
    cloud.get("compute", "/servers")["servers"]

Every call returns the parsed JSON of the answer (None when there is none) or raises Refused.
"""
import json
import time
import urllib.error
import urllib.request

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
MICROVERSIONS = {"compute": ("OpenStack-API-Version", "compute 2.90"), "volumev3": ("OpenStack-API-Version", "volume 3.70"),
                 "placement": ("OpenStack-API-Version", "placement 1.36")}
PREFIXES = {"network": "/v2.0", "image": "/v2"}


class Refused(Exception):
    def __init__(self, method, url, status, body):
        super().__init__(f"{method} {url}: {status} {body[:600]}")
        self.status, self.body = status, body


def call(method, url, body=None, headers=(), timeout=60):
    """One request: status, headers and the bytes of the answer. Bytes are sent as they are, the rest as JSON."""
    headers = dict(headers)
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with OPENER.open(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            raise Refused(method, url, refused.code, refused.read().decode(errors="replace")) from None


class Cloud:
    def __init__(self, auth_url, user, password, project):
        self.auth_url = auth_url
        self.credentials = (user, password, project)
        self.login()

    def login(self):
        user, password, project = self.credentials
        domain = {"id": "default"}
        identity = {"methods": ["password"], "password": {"user": {"name": user, "domain": domain, "password": password}}}
        scope = {"project": {"name": project, "domain": domain}}
        _, headers, body = call("POST", self.auth_url + "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        self.token = headers["X-Subject-Token"]
        token = json.loads(body)["token"]
        self.project_id = token["project"]["id"]
        self.endpoints = {service["type"]: endpoint["url"] for service in token["catalog"]
                          for endpoint in service["endpoints"] if endpoint["interface"] == "public"}
        self.endpoints["identity"] = self.auth_url

    def request(self, method, service, path, body=None, headers=(), timeout=60):
        all_headers = {"X-Auth-Token": self.token, "Accept": "application/json"}
        if service in MICROVERSIONS:
            all_headers.update([MICROVERSIONS[service]])
        all_headers.update(headers)
        url = self.endpoints[service] + PREFIXES.get(service, "") + path
        _, _, answer = call(method, url, body, all_headers, timeout)
        return json.loads(answer) if answer[:1] in (b"{", b"[") else None

    def get(self, service, path):
        return self.request("GET", service, path)

    def post(self, service, path, body):
        return self.request("POST", service, path, body)

    def put(self, service, path, body=None):
        return self.request("PUT", service, path, body)

    def delete(self, service, path):
        return self.request("DELETE", service, path)

    def ensure(self, service, collection, name, body, path=None):
        """The record of that name, made if it is not there yet."""
        path = path or "/" + collection
        single = {"policies": "policy"}.get(collection, collection[:-1])
        for record in self.get(service, path)[collection]:
            if record["name"] == name:
                return record
        answer = self.post(service, path, {**body, "name": name} if service == "image" else {single: {**body, "name": name}})
        return answer if service == "image" else answer[single]


def wait_until(condition, seconds, what, interval=0.2):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(interval)
