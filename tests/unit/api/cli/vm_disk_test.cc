// The request that kumoi vm customize makes of its options.
#include "api/cli/vm_disk_commands.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace kumoi::cli {
namespace {

TEST(CustomizeRequest, PutsAUsersPasswordAndKeysTogether) {
    const auto folder = TemporaryDirectory::create("kumoi-cli").value();
    const std::string secret = folder.path() + "/secret", keys = folder.path() + "/keys";
    ASSERT_TRUE(write_file_atomic(secret, "correct horse\nsecond line\n").ok());
    ASSERT_TRUE(write_file_atomic(keys, "# mine\nssh-rsa AAAA1\n\nssh-rsa AAAA2").ok());
    CustomizeOptions options;
    options.hostname = "web-1";
    options.password_files = {"root=" + secret};
    options.ssh_key_files = {"root=" + keys, "ann=" + keys};
    const auto request = customize_request(options);
    ASSERT_TRUE(request.ok()) << request.error().text();
    EXPECT_EQ(request->dump(),
              R"({"hostname":"web-1","users":[{"name":"root","password":"correct horse",)"
              R"("ssh_keys":["ssh-rsa AAAA1","ssh-rsa AAAA2"]},)"
              R"({"name":"ann","ssh_keys":["ssh-rsa AAAA1","ssh-rsa AAAA2"]}]})");
}

TEST(CustomizeRequest, RefusesNothingAndWrongWords) {
    EXPECT_FALSE(customize_request({}).ok());
    CustomizeOptions options;
    options.password_files = {"root"};
    EXPECT_FALSE(customize_request(options).ok());
    options.password_files = {"root=/nonexistent"};
    EXPECT_FALSE(customize_request(options).ok());
}

}  // namespace
}  // namespace kumoi::cli
