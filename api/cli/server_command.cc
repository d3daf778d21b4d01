// kumoi server: launch, list, show, log, console, delete and the power verbs.
#include "api/cli/command.h"
#include "api/cli/console.h"
#include "api/cli/find.h"
#include "api/cli/server_archive.h"
#include "api/cli/server_backup.h"
#include "api/cli/server_launch.h"
#include "api/cli/server_lifecycle_command.h"
#include "api/cli/server_waiting.h"
#include "base/file.h"

namespace kumoi::cli {
namespace {

const std::vector<Column> kListColumns{{"ID", "id"},
                                       {"NAME", "name"},
                                       {"STATUS", "status"},
                                       {"TASK", "OS-EXT-STS:task_state"},
                                       {"ADDRESS", "address"},
                                       {"FLAVOR", "flavor.original_name"},
                                       {"HOST", "OS-EXT-SRV-ATTR:host"}};

const std::vector<Column> kShowColumns{{"ID", "id"},
                                       {"NAME", "name"},
                                       {"STATUS", "status"},
                                       {"TASK", "OS-EXT-STS:task_state"},
                                       {"VM_STATE", "OS-EXT-STS:vm_state"},
                                       {"ADDRESS", "address"},
                                       {"ADDRESSES", "addresses"},
                                       {"FLAVOR", "flavor.original_name"},
                                       {"VCPUS", "flavor.vcpus"},
                                       {"MEMORY_MIB", "flavor.ram"},
                                       {"IMAGE", "image.id"},
                                       {"KEY", "key_name"},
                                       {"HOST", "OS-EXT-SRV-ATTR:host"},
                                       {"ZONE", "OS-EXT-AZ:availability_zone"},
                                       {"CREATED", "created"},
                                       {"LAUNCHED", "OS-SRV-USG:launched_at"},
                                       {"PROJECT", "tenant_id"},
                                       {"FAULT", "fault.message"}};

Result<Json::Array> list_servers(Session& session, bool all_projects) {
    return TRY(session.cloud())
        ->list("compute", all_projects ? "/servers/detail?all_tenants=1" : "/servers/detail",
               "servers");
}

Json with_address(Json server) {
    server.set("address", first_address(server));
    return server;
}

struct PowerVerb {
    const char* name;
    const char* help;
    const char* action;   // of POST /servers/{id}/action
    const char* arrived;  // status to wait for
};

const std::vector<PowerVerb> kPowerVerbs{
    {"start", "Turn servers on.", "os-start", "ACTIVE"},
    {"stop", "Turn servers off: the guest is asked first.", "os-stop", "SHUTOFF"},
    {"reboot", "Restart servers.", "reboot", "ACTIVE"},
    {"pause", "Freeze servers; memory is kept.", "pause", "PAUSED"},
    {"unpause", "Let paused servers run on.", "unpause", "ACTIVE"},
};

Json action_body(const PowerVerb& verb, bool hard) {
    const bool reboot = std::string_view(verb.action) == "reboot";
    return Json::object(
        {{verb.action, reboot ? Json::object({{"type", hard ? "HARD" : "SOFT"}}) : Json()}});
}

Result<void> act(Session& session, const PowerVerb& verb, const std::vector<std::string>& wanted,
                 bool hard) {
    for (const std::string& name : wanted) {
        const Json server = TRY(find_server(session, name));
        const std::string id = server.string_or("id");
        TRY(TRY(session.cloud())
                ->post("compute", "/servers/" + id + "/action", action_body(verb, hard)));
        if (session.options.no_wait) {
            continue;
        }
        const Json seen = TRY(wait_for_server(session, id, [&](const Json& now) -> Result<bool> {
            if (now.string_or("status") == "ERROR") {
                return fault_of(now);
            }
            return now.string_or("status") == verb.arrived &&
                   now.string_or("OS-EXT-STS:task_state").empty();
        }));
        session.out.say(fmt::format(" {}  {}", seen.string_or("name"), phase_of(seen)));
    }
    return {};
}

Result<void> remove(Session& session, const std::vector<std::string>& wanted) {
    std::vector<Json> servers;  // all must be found before the first one goes
    for (const std::string& name : wanted) {
        servers.push_back(TRY(find_server(session, name)));
    }
    for (const Json& server : servers) {
        const std::string id = server.string_or("id");
        TRY(TRY(session.cloud())->remove("compute", "/servers/" + id));
        if (!session.options.no_wait) {
            TRY(wait_for_deletion(session, id));
            session.out.say(fmt::format(" {}  deleted", server.string_or("name")));
        }
    }
    return {};
}

Result<void> show_log(Session& session, const std::string& wanted, int64_t lines) {
    const Json server = TRY(find_server(session, wanted));
    Json arguments = Json::object();
    if (lines > 0) {
        arguments.set("length", lines);
    }
    const Json answer =
        TRY(TRY(session.cloud())
                ->post("compute", "/servers/" + server.string_or("id") + "/action",
                       Json::object({{"os-getConsoleOutput", std::move(arguments)}})));
    session.out.data(answer.string_or("output"));
    return {};
}

Result<void> show_console_url(Session& session, const std::string& wanted, bool serial) {
    const Json server = TRY(find_server(session, wanted));
    const Json wish =
        Json::object({{"remote_console", Json::object({{"protocol", serial ? "serial" : "vnc"},
                                                       {"type", serial ? "serial" : "novnc"}})}});
    const Json answer =
        TRY(TRY(session.cloud())
                ->post("compute", "/servers/" + server.string_or("id") + "/remote-consoles", wish));
    const Json* console = answer.find("remote_console");
    if (console == nullptr) {
        return Error::unsupported("The cloud answered without the address of a console.");
    }
    session.out.data(console->string_or("url") + "\n");
    return {};
}

Result<void> open_console(Session& session, const std::string& wanted) {
    const Json server = TRY(find_server(session, wanted));
    const std::string path =
        fmt::format("{}/{}/console.sock", session.instances_path(), server.string_or("id"));
    if (!path_exists(path)) {
        return Error::unsupported("Server {} does not run on this host.", server.string_or("name"))
            .with_hint(fmt::format("Run this on {}, or read: kumoi server log {}",
                                   server.string_or("OS-EXT-SRV-ATTR:host", "its host"),
                                   server.string_or("name")));
    }
    return attach_console(session.out, path);
}

void add_power_verbs(CLI::App* noun, Session& session) {
    for (const PowerVerb& verb : kPowerVerbs) {
        auto servers = std::make_shared<std::vector<std::string>>();  // shared with the callback
        auto hard = std::make_shared<bool>(false);                    // shared with the callback
        CLI::App* command = add_verb(
            noun, verb.name, verb.help, session,
            [&session, verb, servers, hard] { return act(session, verb, *servers, *hard); });
        command->add_option("server", *servers, "Names or ids.")->required();
        if (std::string_view(verb.action) == "reboot") {
            command->add_flag("--hard", *hard, "Reset it without asking the guest.");
        }
    }
}

void add_launch(CLI::App* noun, Session& session) {
    auto options = std::make_shared<LaunchOptions>();  // shared with the callback
    CLI::App* command = add_verb(noun, "launch", "Make a server and wait until it runs.", session,
                                 [&session, options] { return launch_server(session, *options); });
    command->add_option("image", options->image, "Image: name or id.")->required();
    command->add_option("name", options->name, "Name of the new server.")->required();
    command->add_option("--flavor", options->flavor, "Flavor. Default: the smallest that fits.");
    command->add_option("--network", options->networks,
                        "Network, may be repeated. Default: the only one.");
    command->add_option("--key-name", options->key_name, "Key pair for the guest.");
    command->add_option("--availability-zone", options->availability_zone, "Where to put it.");
    command->add_option("--user-data", options->user_data_file, "File for cloud-init.");
    command->add_flag("--config-drive", options->config_drive, "Give it a config drive.");
}

void add_archive_verbs(CLI::App* noun, Session& session) {
    auto out = std::make_shared<ExportOptions>();  // shared with the callback
    CLI::App* save = add_verb(noun, "export", "Write a server into one file, running or not.",
                              session, [&session, out] { return export_server(session, *out); });
    save->add_option("server", out->server, "Name or id.")->required();
    save->add_option("file", out->output,
                     "NAME.ova or NAME.ovf for other systems; else a kumoi archive.")
        ->required();
    save->add_flag("--overwrite", out->overwrite, "Replace the file.");
    auto in = std::make_shared<ImportOptions>();  // shared with the callback
    CLI::App* load = add_verb(noun, "import", "Make a server of such a file.", session,
                              [&session, in] { return import_server(session, *in); });
    load->add_option("file", in->input,
                     "A kumoi archive, an OVA, or an OVF with its disk beside it.")
        ->required();
    load->add_option("--name", in->name, "Name of the new server. Default: as in the file.");
    load->add_option("--flavor", in->flavor, "Flavor. Default: the smallest that has enough.");
    load->add_option("--network", in->networks,
                     "Network, may be repeated. Default: as in the file.");
    load->add_option("--key-name", in->key_name, "Key pair for the guest.");
    load->add_flag("--keep-image", in->keep_image, "Leave the disk's image for further servers.");
    load->add_flag("--image-only", in->image_only, "Make the image and no server.");
}

void add_backup_verbs(CLI::App* noun, Session& session) {
    CLI::App* backup = noun->add_subcommand("backup", "Backups of a server of this host.");
    backup->fallthrough();
    backup->require_subcommand(1);
    auto made = std::make_shared<BackupOptions>();  // shared with the callback
    CLI::App* create = add_verb(backup, "create", "Back up its root disk, running or not.", session,
                                [&session, made] { return backup_server(session, *made); });
    create->add_option("server", made->server, "Name or id.")->required();
    create->add_option("folder", made->folder, "The server's backup folder.")->required();
    create->add_flag("--incremental", made->incremental, "Only what changed since the last one.");
    auto folder = std::make_shared<std::string>();  // shared with the callback
    add_verb(backup, "list", "List the backups in a folder.", session,
             [&session, folder] { return list_backups(session, *folder); })
        ->add_option("folder", *folder, "The backup folder.")
        ->required();
    auto wanted = std::make_shared<RestoreOptions>();  // shared with the callback
    CLI::App* restore =
        add_verb(backup, "restore", "Write a backup to a disk file, or back to a stopped server.",
                 session, [&session, wanted] { return restore_backup(session, *wanted); });
    restore->add_option("folder", wanted->folder, "The backup folder.")->required();
    restore->add_option("--id", wanted->id, "Which backup. Default: the last one.");
    CLI::Option* output = restore->add_option("--output", wanted->output, "A new disk file.");
    restore->add_option("--format", wanted->format, "Of the disk file: qcow2 or raw.")
        ->check(CLI::IsMember({"qcow2", "raw"}));
    restore->add_option("--server", wanted->server, "A stopped server; its disk is replaced.")
        ->excludes(output);
}

void add_one_server_verbs(CLI::App* noun, Session& session) {
    auto wanted = std::make_shared<std::string>();  // shared with the callbacks
    auto lines = std::make_shared<int64_t>(0);      // shared with the callback
    add_verb(noun, "show", "Show one server.", session,
             [&session, wanted]() -> Result<void> {
                 const Json server = TRY(find_server(session, *wanted));
                 const Json answer = TRY(
                     TRY(session.cloud())->get("compute", "/servers/" + server.string_or("id")));
                 return session.out.record(kShowColumns, with_address(*answer.find("server")));
             })
        ->add_option("server", *wanted, "Name or id.")
        ->required();
    add_verb(noun, "console", "Open the serial console of a server on this host.", session,
             [&session, wanted] { return open_console(session, *wanted); })
        ->add_option("server", *wanted, "Name or id.")
        ->required();
    auto serial = std::make_shared<bool>(false);  // shared with the callback
    CLI::App* display = add_verb(
        noun, "display", "Print the address at which a browser shows a server's display.", session,
        [&session, wanted, serial] { return show_console_url(session, *wanted, *serial); });
    display->add_option("server", *wanted, "Name or id.")->required();
    display->add_flag("--serial", *serial, "The WebSocket of its serial console instead.");
    CLI::App* log =
        add_verb(noun, "log", "Print what the guest wrote to its console.", session,
                 [&session, wanted, lines] { return show_log(session, *wanted, *lines); });
    log->add_option("server", *wanted, "Name or id.")->required();
    log->add_option("-n,--lines", *lines, "Only the last lines.")->check(CLI::Range(1, 1000000));
}

}  // namespace

void add_server_commands(CLI::App& app, Session& session) {
    CLI::App* noun = add_noun(app, "server", "Servers: launch, list, show, console, power.");
    add_launch(noun, session);
    auto all = std::make_shared<bool>(false);  // shared with the callback
    add_verb(noun, "list", "List servers.", session, [&session, all]() -> Result<void> {
        auto servers = TRY(list_servers(session, *all));
        for (Json& server : servers) {
            server = with_address(std::move(server));
        }
        return session.out.list(kListColumns, servers);
    })->add_flag("--all-projects", *all, "Those of every project (administrators).");
    add_one_server_verbs(noun, session);
    add_power_verbs(noun, session);
    add_server_lifecycle_verbs(noun, session);
    add_server_migration_verbs(noun, session);
    add_archive_verbs(noun, session);
    add_backup_verbs(noun, session);
    auto doomed = std::make_shared<std::vector<std::string>>();  // shared with the callback
    add_verb(noun, "delete", "Delete servers and their disks.", session,
             [&session, doomed] { return remove(session, *doomed); })
        ->add_option("server", *doomed, "Names or ids.")
        ->required();
}

}  // namespace kumoi::cli
