// What customization writes into a Linux guest's files, on a folder that stands for its disk.
#include "hypervisor/offline/customization.h"

#include <gtest/gtest.h>

#include <crypt.h>
#include <glob.h>
#include <sys/stat.h>

#include <map>

#include "base/file.h"
#include "hypervisor/offline/accounts.h"
#include "hypervisor/offline/system_reset.h"

namespace kumoi::hypervisor::offline {
namespace {

constexpr char kKey[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Q2y6 admin@example";

class FolderFiles final : public GuestFiles {
public:
    explicit FolderFiles(std::string root) : root_(std::move(root)) {}
    Result<bool> exists(const std::string& path) override { return path_exists(root_ + path); }
    Result<bool> is_directory(const std::string& path) override {
        struct stat about {};
        return ::stat((root_ + path).c_str(), &about) == 0 && S_ISDIR(about.st_mode);
    }
    Result<std::string> read(const std::string& path) override {
        return read_file(root_ + path, kReadMax);
    }
    Result<void> write(const std::string& path, std::string_view content, uint32_t mode) override {
        return write_file_atomic(root_ + path, content, mode);
    }
    Result<void> make_directory(const std::string& path, uint32_t mode) override {
        return make_directories(root_ + path, mode);
    }
    Result<void> own(const std::string& path, Owner owner) override {
        owners[path] = owner.uid;
        return {};
    }
    Result<void> chmod(const std::string& path, uint32_t mode) override {
        modes[path] = mode;
        return {};
    }
    Result<void> remove(const std::string& path) override { return remove_tree(root_ + path); }
    Result<std::vector<std::string>> glob(const std::string& pattern) override {
        std::vector<std::string> paths;
        glob_t found{};
        if (::glob((root_ + pattern).c_str(), 0, nullptr, &found) == 0) {
            for (size_t i = 0; i < found.gl_pathc; ++i) {
                paths.push_back(std::string(found.gl_pathv[i]).substr(root_.size()));
            }
        }
        globfree(&found);
        return paths;
    }
    std::map<std::string, uint32_t> owners, modes;

private:
    std::string root_;
};

class CustomizationTest : public testing::Test {
protected:
    CustomizationTest() {
        put("/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nadmin:x:1000:1001::/home/admin:/bin/sh\n");
        put("/etc/shadow", "root:*:19000:0:99999:7:::\nadmin:!:19000:0:99999:7:::\n");
    }
    void put(const std::string& path, const std::string& text) {
        ASSERT_TRUE(make_directories(root_ + path.substr(0, path.rfind('/'))).ok());
        ASSERT_TRUE(write_file_atomic(root_ + path, text).ok());
    }
    std::string get(const std::string& path) {
        auto text = read_file(root_ + path);
        return text.ok() ? *text : "(" + text.error().text() + ")";
    }
    Result<std::vector<std::string>> run(const std::string& request) {
        const auto parsed = Json::parse(request);
        EXPECT_TRUE(parsed.ok());
        const auto wanted = parse_customization(*parsed);
        if (!wanted) {
            return wanted.error();
        }
        return customize(files_, *wanted, random_, clock_);
    }
    std::string refusal(const std::string& request) {
        const auto done = run(request);
        return done.ok() ? "" : done.error().text();
    }

    TemporaryDirectory folder_ = TemporaryDirectory::create("kumoi-offline").value();
    std::string root_ = folder_.path();
    FolderFiles files_{root_};
    SeededRandom random_{1};
    ManualClock clock_{20'000 * 86'400 * kNanosPerSecond};
};

TEST_F(CustomizationTest, TheHostNameGoesWhereSystemsLookForIt) {
    put("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old\n::1 localhost\n");
    ASSERT_TRUE(run(R"({"hostname": "web-1.example.org"})").ok());
    EXPECT_EQ(get("/etc/hostname"), "web-1.example.org\n");
    EXPECT_EQ(get("/etc/hosts"),
              "127.0.0.1 localhost\n127.0.1.1\tweb-1.example.org web-1\n::1 localhost\n");
}

TEST_F(CustomizationTest, APasswordIsOneThatCryptAccepts) {
    ASSERT_TRUE(run(R"({"users": [{"name": "admin", "password": "correct horse"}]})").ok());
    const std::string shadow = get("/etc/shadow");
    EXPECT_TRUE(shadow.starts_with("root:*:19000:")) << shadow;
    const size_t begin = shadow.find("admin:") + 6;
    const std::string hash = shadow.substr(begin, shadow.find(':', begin) - begin);
    crypt_data data{};
    EXPECT_STREQ(crypt_r("correct horse", hash.c_str(), &data), hash.c_str());
    EXPECT_NE(shadow.find(hash + ":20000:0:99999:7:::"), std::string::npos) << shadow;
}

TEST_F(CustomizationTest, KeysAreAddedOnceAndBelongToTheAccount) {
    put("/home/admin/.ssh/authorized_keys", "ssh-rsa AAAAB3 other");
    const std::string request =
        std::string(R"({"users": [{"name": "admin", "ssh_keys": [")") + kKey + R"("]}]})";
    ASSERT_TRUE(run(request).ok());
    ASSERT_TRUE(run(request).ok());
    EXPECT_EQ(get("/home/admin/.ssh/authorized_keys"),
              "ssh-rsa AAAAB3 other\n" + std::string(kKey) + "\n");
    EXPECT_EQ(files_.owners["/home/admin/.ssh/authorized_keys"], 1000U);
    EXPECT_EQ(files_.modes["/home/admin/.ssh/authorized_keys"], 0600U);
}

TEST_F(CustomizationTest, ResetLeavesDataAndAccountsAlone) {
    put("/etc/machine-id", "abc\n");
    put("/etc/ssh/ssh_host_rsa_key", "x");
    put("/etc/ssh/sshd_config", "x");
    put("/var/lib/cloud/instances/i-1/sem", "x");
    put("/var/log/auth.log", "x");
    put("/home/admin/data", "x");
    ASSERT_TRUE(run(R"({"reset": true})").ok());
    EXPECT_EQ(get("/etc/machine-id"), "");
    EXPECT_EQ(get("/var/log/auth.log"), "");
    EXPECT_FALSE(path_exists(root_ + "/etc/ssh/ssh_host_rsa_key"));
    EXPECT_FALSE(path_exists(root_ + "/var/lib/cloud/instances/i-1"));
    EXPECT_TRUE(path_exists(root_ + "/etc/ssh/sshd_config"));
    EXPECT_EQ(get("/home/admin/data"), "x");
}

TEST_F(CustomizationTest, SelinuxGuestsAreLabelledAgain) {
    put("/etc/selinux/config", "SELINUX=enforcing\n");
    ASSERT_TRUE(run(R"({"hostname": "a"})").ok());
    EXPECT_TRUE(path_exists(root_ + "/.autorelabel"));
}

constexpr char kStatic[] =
    R"({"network": [{"mac": "52:54:00:12:34:56", "addresses": ["192.0.2.5/24", "2001:db8::5/64"],
        "gateway4": "192.0.2.1", "gateway6": "2001:db8::1", "dns": ["192.0.2.53"]}]})";

TEST_F(CustomizationTest, NetworkByNetplan) {
    put("/etc/netplan/x", "");
    ASSERT_TRUE(run(kStatic).ok());
    EXPECT_EQ(get("/etc/netplan/60-kumoi.yaml"),
              "network:\n  version: 2\n  ethernets:\n    kumoi0:\n"
              "      match: {macaddress: \"52:54:00:12:34:56\"}\n      dhcp4: false\n"
              "      addresses: [\"192.0.2.5/24\", \"2001:db8::5/64\"]\n      routes:\n"
              "      - {to: \"0.0.0.0/0\", via: \"192.0.2.1\"}\n"
              "      - {to: \"::/0\", via: \"2001:db8::1\"}\n"
              "      nameservers: {addresses: [\"192.0.2.53\"]}\n");
    EXPECT_EQ(files_.modes["/etc/netplan/60-kumoi.yaml"], 0600U);
}

TEST_F(CustomizationTest, NetworkByNetworkManager) {
    put("/etc/NetworkManager/system-connections/x", "");
    ASSERT_TRUE(run(kStatic).ok());
    EXPECT_EQ(get("/etc/NetworkManager/system-connections/kumoi0.nmconnection"),
              "[connection]\nid=kumoi0\ntype=ethernet\nautoconnect-priority=100\n\n"
              "[ethernet]\nmac-address=52:54:00:12:34:56\n"
              "\n[ipv4]\nmethod=manual\naddress1=192.0.2.5/24\ngateway=192.0.2.1\n"
              "dns=192.0.2.53;\n"
              "\n[ipv6]\nmethod=manual\naddress1=2001:db8::5/64\ngateway=2001:db8::1\n");
}

TEST_F(CustomizationTest, NetworkByIfupdownNamesTheCard) {
    put("/etc/network/interfaces", "source interfaces.d/*\n");
    ASSERT_TRUE(run(R"({"network": [{"mac": "52:54:00:12:34:56"}]})").ok());
    EXPECT_EQ(get("/etc/systemd/network/10-kumoi0.link"),
              "[Match]\nMACAddress=52:54:00:12:34:56\n\n[Link]\nName=kumoi0\n");
    EXPECT_EQ(get("/etc/network/interfaces.d/kumoi"), "auto kumoi0\niface kumoi0 inet dhcp\n");
}

TEST_F(CustomizationTest, NetworkByNetworkd) {
    put("/etc/systemd/network/x", "");
    ASSERT_TRUE(run(kStatic).ok());
    EXPECT_EQ(get("/etc/systemd/network/10-kumoi0.network"),
              "[Match]\nMACAddress=52:54:00:12:34:56\n\n[Network]\nAddress=192.0.2.5/24\n"
              "Address=2001:db8::5/64\nGateway=192.0.2.1\nGateway=2001:db8::1\n"
              "DNS=192.0.2.53\n");
}

TEST_F(CustomizationTest, RefusesWhatWouldBreakTheGuest) {
    EXPECT_NE(refusal(R"({"hostname": "-a"})"), "");
    EXPECT_NE(refusal(R"({"hostname": "a\nb"})"), "");
    EXPECT_NE(refusal(R"({"users": [{"name": "../etc"}]})"), "");
    EXPECT_NE(refusal(R"({"users": [{"name": "admin", "ssh_keys": ["a\nssh-rsa AAAA"]}]})"), "");
    EXPECT_NE(refusal(R"({"users": [{"name": "admin", "password": "a\nroot::0"}]})"), "");
    EXPECT_NE(refusal(R"({"network": [{"mac": "52:54:00:12:34:5"}]})"), "");
    EXPECT_NE(refusal(R"({"network": [{"mac": "52:54:00:12:34:56", "addresses": ["192.0.2.5"]}]})"),
              "");
    EXPECT_NE(refusal(R"({"network": [{"mac": "52:54:00:12:34:56", "dns": ["a]"]}]})"), "");
    EXPECT_NE(refusal(R"({"hosts": 1})"), "");
    EXPECT_NE(refusal(R"({"users": [{"name": "nobody"}]})").find("no account nobody"),
              std::string::npos);
    put("/etc/passwd", "admin:x:many:1001::/home/admin:/bin/sh\n");
    EXPECT_NE(refusal(R"({"users": [{"name": "admin"}]})").find("broken"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::hypervisor::offline
