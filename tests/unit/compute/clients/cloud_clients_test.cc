#include "compute/clients/cloud_clients.h"

#include <gtest/gtest.h>

#include "compute/clients/host_inventory_report.h"
#include "tests/support/recorded_cloud.h"

namespace kumoi::clients {
namespace {

using test::RecordedCloud;

struct Conf {
    explicit Conf(const std::string& text) {
        table.add_all(client_option_table());
        config = Config::parse(text, table).value();
    }
    OptionTable table;
    Config config = Config::defaults(table);
    ManualClock clock;
    SeededRandom random{1};
    Result<std::unique_ptr<CloudClients>> clients() {
        return CloudClients::create(config, {clock, random, [](int64_t) {}});
    }
};

std::string nova_conf(const std::string& url) {
    const auto auth = [&](const std::string& section, const std::string& user) {
        return fmt::format(
            "[{}]\nauth_type = password\nauth_url = {}\nusername = {}\npassword = secret\n"
            "user_domain_name = Default\nproject_name = service\nproject_domain_name = Default\n",
            section, url, user);
    };
    return auth("placement", "placement") + "endpoint_override = " + url + "\n" +
           auth("neutron", "neutron") + "endpoint_override = " + url + "\n" +
           auth("service_user", "nova") + "send_service_user_token = true\n" +
           "[glance]\nendpoint_override = " + url + "\n";
}

TEST(CloudClients, OneNovaConfMakesThemAll) {
    auto recording = test::load_recording("first_start.json");
    for (auto& exchange : test::load_recording("create_neutron.json")) {
        recording.push_back(std::move(exchange));
    }
    RecordedCloud cloud(std::move(recording));
    Conf conf(nova_conf(cloud.url()));
    const auto clients = conf.clients();
    ASSERT_TRUE(clients.ok()) << clients.error().text();
    const auto tree = (*clients)->placement().tree_of({}, "de11a95f-1fa9-4eac-87c3-4f60aeed3aa2");
    ASSERT_TRUE(tree.ok()) << tree.error().text();
    const auto extension = (*clients)->neutron().has_extension({}, "dns-integration");
    ASSERT_TRUE(extension.ok()) << extension.error().text();
    // Neutron gets a service token beside our own, Placement does not.
    EXPECT_EQ(cloud.asked("GET", "/resource_providers")[0].header("x-service-token"), "");
    const auto neutron = cloud.asked("GET", "/v2.0/extensions")[0];
    EXPECT_NE(neutron.header("x-service-token"), "");
    EXPECT_NE(neutron.header("x-service-token"), neutron.header("x-auth-token"));
    std::vector<std::string> users;
    for (const auto& request : cloud.asked("POST", "/v3/auth/tokens")) {
        const Json body = Json::parse(request.body).value();
        users.push_back(
            body.find_path({"auth", "identity", "password", "user"})->string_or("name"));
    }
    std::sort(users.begin(), users.end());
    EXPECT_EQ(users, (std::vector<std::string>{"neutron", "nova", "placement"}));
    EXPECT_EQ((*clients)->token_checker(), nullptr);
    EXPECT_NE((*clients)->make_report_client(), nullptr);
    // Glance has no user of its own here: what nobody asked for is asked as the service user.
    EXPECT_FALSE((*clients)->glance().show({}, "x").ok());  // not in the recording
    ASSERT_GE(cloud.asked("GET", "/v2/images/x").size(), 1u);
    EXPECT_EQ(cloud.asked("GET", "/v2/images/x")[0].header("x-auth-token"),
              neutron.header("x-service-token"));
}

TEST(CloudClients, MissingCredentialsAreNamed) {
    Conf none("");
    const auto clients = none.clients();
    ASSERT_FALSE(clients.ok());
    EXPECT_NE(clients.error().message.find("[placement]"), std::string::npos);
    Conf unfinished(
        "[placement]\nauth_url = http://k\n[neutron]\nauth_url = http://k\n"
        "[service_user]\nsend_service_user_token = true\n");
    EXPECT_NE(unfinished.clients().error().message.find("[service_user]"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::clients
