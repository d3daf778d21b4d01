// Customizes a guest whose files are the input: /etc/passwd, /etc/shadow, /etc/hosts and
// authorized_keys, cut at NUL bytes.

#include <map>

#include "hypervisor/offline/customization.h"

using namespace kumoi;
using namespace kumoi::hypervisor::offline;

namespace {

class MemoryFiles final : public GuestFiles {
public:
    std::map<std::string, std::string> files;

    Result<bool> exists(const std::string& path) override { return files.contains(path); }
    Result<bool> is_directory(const std::string& path) override { return path.ends_with("/.ssh"); }
    Result<std::string> read(const std::string& path) override {
        const auto found = files.find(path);
        if (found == files.end()) {
            return Error::not_found("no {}", path);
        }
        return found->second;
    }
    Result<void> write(const std::string& path, std::string_view content, uint32_t) override {
        files[path] = content;
        return {};
    }
    Result<void> make_directory(const std::string&, uint32_t) override { return {}; }
    Result<void> own(const std::string&, Owner) override { return {}; }
    Result<void> chmod(const std::string&, uint32_t) override { return {}; }
    Result<void> remove(const std::string& path) override {
        files.erase(path);
        return {};
    }
    Result<std::vector<std::string>> glob(const std::string& pattern) override {
        return std::vector<std::string>{pattern};
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    MemoryFiles files;
    const std::string text(reinterpret_cast<const char*>(data), size);
    size_t at = 0;
    for (const char* path :
         {"/etc/passwd", "/etc/shadow", "/etc/hosts", "/root/.ssh/authorized_keys"}) {
        const size_t end = std::min(text.find('\0', at), text.size());
        files.files[path] = text.substr(at, end - at);
        at = std::min(end + 1, text.size());
    }
    Customization wanted;
    wanted.hostname = "web-1.example.org";
    wanted.reset = size % 2 != 0;
    wanted.users.push_back({"root", std::nullopt, {"ssh-ed25519 AAAAC3 a@b"}});
    SeededRandom random(1);
    const ManualClock clock;
    const auto done = customize(files, wanted, random, clock);
    if (done && files.files["/etc/hostname"] != "web-1.example.org\n") {
        __builtin_trap();
    }
    return 0;
}
