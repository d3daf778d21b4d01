#include "api/cli/vm_disk_commands.h"

#include <memory>

#include "api/cli/command.h"
#include "api/cli/find.h"
#include "api/cli/local_machines.h"
#include "api/cli/programs.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/subprocess.h"

namespace kumoi::cli {
namespace {

constexpr int64_t kTimeoutMs = 1800 * 1000;
constexpr size_t kFileMax = 256u << 10;

struct UserFile {
    std::string user;
    std::string content;
};

Result<UserFile> read_user_file(const std::string& word) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos || equals == 0) {
        return Error::invalid("\"{}\" is not USER=FILE", word);
    }
    const std::string content = TRY(read_file(word.substr(equals + 1), kFileMax));
    return UserFile{word.substr(0, equals), content};
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        std::string line = text.substr(begin, end - begin);
        if (!line.empty() && line.front() != '#') {
            lines.push_back(std::move(line));
        }
        begin = end + 1;
    }
    return lines;
}

// The entry of `name` in the request's users, made when it is not there.
Json& user_entry(Json::Array& users, const std::string& name) {
    for (Json& user : users) {
        if (user.string_or("name") == name) {
            return user;
        }
    }
    users.push_back(Json::object({{"name", name}}));
    return users.back();
}

struct StoppedDisk {
    UniqueFd lock;  // no kumoi-vmm starts while it is held
    std::string path;
    std::string format;
};

Result<StoppedDisk> stopped_disk(Session& session, const std::string& wanted) {
    const Json machine = TRY(find_one("vm", TRY(local_machines(session.instances_path())), wanted));
    const std::string folder = machine.string_or("path");
    auto lock = TRY(try_lock_file(folder + "/lock"));
    if (!lock) {
        return Error::conflict("{} runs", machine.string_or("name"))
            .with_hint("stop it first: kumoi server stop " + machine.string_or("name"));
    }
    const Json config = TRY(Json::parse(TRY(read_file(folder + "/guest.json"))));
    for (const JsonView& disk : TRY(JsonView(config).array("disks"))) {
        if (TRY(disk.string_or("id", "")) == "root") {
            const std::string path = TRY(disk.string("path"));
            const std::string format = TRY(disk.string_or("format", "raw"));
            return StoppedDisk{std::move(*lock), path, format};
        }
    }
    return Error::not_found("{} has no root disk", machine.string_or("name"));
}

Result<std::string> program() {
    auto found = find_kumoi_program("kumoi-guestfs");
    if (!found) {
        return std::move(found).error().with_hint(
            "install libguestfs-dev and build kumoi again; see docs/reference/offline.md");
    }
    return found;
}

Result<void> inspect(Session& session, const std::string& wanted) {
    const StoppedDisk disk = TRY(stopped_disk(session, wanted));
    const std::string answer =
        TRY(run_checked({TRY(program()), "inspect", "--format", disk.format, disk.path},
                        {.timeout_ms = kTimeoutMs}));
    session.out.data(TRY(Json::parse(answer)).dump_pretty() + "\n");
    return {};
}

Result<void> customize(Session& session, const CustomizeOptions& options) {
    const Json request = TRY(customize_request(options));
    const StoppedDisk disk = TRY(stopped_disk(session, options.vm));
    const std::string answer =
        TRY(run_checked({TRY(program()), "customize", "--format", disk.format, disk.path},
                        {.input = request.dump(), .timeout_ms = kTimeoutMs}));
    const Json parsed = TRY(Json::parse(answer));
    for (const JsonView& line : TRY(JsonView(parsed).array("done"))) {
        session.out.say(" " + TRY(line.as_string()));
    }
    return {};
}

}  // namespace

Result<Json> customize_request(const CustomizeOptions& options) {
    Json request = Json::object();
    if (!options.hostname.empty()) {
        request.set("hostname", options.hostname);
    }
    if (options.reset) {
        request.set("reset", true);
    }
    Json::Array users;
    for (const std::string& word : options.password_files) {
        const UserFile file = TRY(read_user_file(word));
        user_entry(users, file.user)
            .set("password", file.content.substr(0, file.content.find('\n')));
    }
    for (const std::string& word : options.ssh_key_files) {
        const UserFile file = TRY(read_user_file(word));
        user_entry(users, file.user).set("ssh_keys", Json::array_of(lines_of(file.content)));
    }
    if (!users.empty()) {
        request.set("users", Json(std::move(users)));
    }
    if (!options.network_file.empty()) {
        request.set("network", TRY(Json::parse(TRY(read_file(options.network_file, kFileMax)))));
    }
    if (request.size() == 0) {
        return Error::invalid("nothing to customize").with_hint("see kumoi vm customize --help");
    }
    return request;
}

void add_vm_disk_verbs(CLI::App* noun, Session& session) {
    auto wanted = std::make_shared<std::string>();  // shared with the callback
    add_verb(noun, "inspect", "Show which system is on a stopped one's disk.", session,
             [&session, wanted] { return inspect(session, *wanted); })
        ->add_option("vm", *wanted, "Name or id.")
        ->required();
    auto options = std::make_shared<CustomizeOptions>();  // shared with the callback
    CLI::App* verb =
        add_verb(noun, "customize", "Change a stopped one's disk: name, accounts, network.",
                 session, [&session, options] { return customize(session, *options); });
    verb->add_option("vm", options->vm, "Name or id.")->required();
    verb->add_option("--hostname", options->hostname, "Its host name.");
    verb->add_option("--password", options->password_files, "USER=FILE; the file's first line.");
    verb->add_option("--ssh-key", options->ssh_key_files, "USER=FILE; public keys, one a line.");
    verb->add_option("--network", options->network_file, "File with its cards' addresses.");
    verb->add_flag("--reset", options->reset,
                   "Remove what copies of it must not share: machine id, host keys, leases, logs.");
}

}  // namespace kumoi::cli
