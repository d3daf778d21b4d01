// kumoi vm: the machines of this host, without any control plane: the way in when kumoi-compute is
// stopped or broken. Needs the rights of the user kumoi-compute runs as.
#include "api/cli/command.h"
#include "api/cli/console.h"
#include "api/cli/find.h"
#include "api/cli/local_machines.h"
#include "api/cli/vm_disk_commands.h"

namespace kumoi::cli {
namespace {

const std::vector<Column> kColumns{{"ID", "id"},
                                   {"NAME", "name"},
                                   {"STATE", "state"},
                                   {"VCPUS", "vcpus", true},
                                   {"MEMORY_MIB", "memory_mb", true},
                                   {"ADDRESS", "address"},
                                   {"PROBLEM", "problem"}};

Result<Json> find_machine(Session& session, const std::string& wanted) {
    return find_one("vm", TRY(local_machines(session.instances_path())), wanted);
}

Result<void> show(Session& session, const std::string& wanted) {
    std::vector<Column> columns = kColumns;
    columns.push_back({"PROJECT", "project_id"});
    columns.push_back({"FOLDER", "path"});
    return session.out.record(columns, TRY(find_machine(session, wanted)));
}

Result<void> call(Session& session, const std::string& wanted, const std::string& method) {
    const Json machine = TRY(find_machine(session, wanted));
    const Json answer = TRY(call_machine(machine, method));
    session.out.say(fmt::format(" {}  {}", machine.string_or("name"), answer.string_or("state")));
    return {};
}

Result<void> stop(Session& session, const std::string& wanted, bool force, int64_t seconds) {
    const Json machine = TRY(find_machine(session, wanted));
    if (force) {
        TRY(call_machine(machine, "quit"));
    } else {
        TRY(power_off(machine, seconds * 1000));
    }
    session.out.say(fmt::format(" {}  stopped", machine.string_or("name")));
    return {};
}

// The control protocol's statistics are for programs too: their JSON is the data.
Result<void> statistics(Session& session, const std::string& wanted) {
    const Json answer = TRY(call_machine(TRY(find_machine(session, wanted)), "statistics"));
    session.out.data(answer.dump_pretty() + "\n");
    return {};
}

CLI::App* add_machine_verb(CLI::App* noun, const char* name, const char* help, Session& session,
                           const std::shared_ptr<std::string>& wanted,  // shared with the callback
                           std::function<Result<void>(const std::string&)> action) {
    CLI::App* verb = add_verb(noun, name, help, session,
                              [wanted, action = std::move(action)] { return action(*wanted); });
    verb->add_option("vm", *wanted, "Name or id.")->required();
    return verb;
}

}  // namespace

void add_vm_commands(CLI::App& app, Session& session) {
    CLI::App* noun = add_noun(app, "vm", "Machines of this host, without any API.");
    auto wanted = std::make_shared<std::string>();  // shared with the callbacks
    auto lines = std::make_shared<size_t>(0);       // shared with the callback
    auto force = std::make_shared<bool>(false);     // shared with the callback
    auto seconds = std::make_shared<int64_t>(60);   // shared with the callback
    add_verb(noun, "list", "List them.", session, [&session]() -> Result<void> {
        return session.out.list(kColumns, TRY(local_machines(session.instances_path())));
    });
    add_machine_verb(noun, "show", "Show one.", session, wanted,
                     [&session](const std::string& name) { return show(session, name); });
    for (const char* method : {"pause", "resume"}) {
        add_machine_verb(
            noun, method, std::string_view(method) == "pause" ? "Freeze one." : "Let it run on.",
            session, wanted,
            [&session, method](const std::string& name) { return call(session, name, method); });
    }
    CLI::App* stop_verb =
        add_machine_verb(noun, "stop", "Press its power button and wait.", session, wanted,
                         [&session, force, seconds](const std::string& name) {
                             return stop(session, name, *force, *seconds);
                         });
    stop_verb->add_flag("--force", *force, "Cut the power instead.");
    stop_verb->add_option("--timeout", *seconds, "Seconds to wait.")->check(CLI::Range(1, 86400));
    add_machine_verb(noun, "console", "Open its serial console.", session, wanted,
                     [&session](const std::string& name) -> Result<void> {
                         const Json machine = TRY(find_machine(session, name));
                         return attach_console(session.out,
                                               machine.string_or("path") + "/console.sock");
                     });
    add_machine_verb(noun, "log", "Print what it wrote to its console.", session, wanted,
                     [&session, lines](const std::string& name) -> Result<void> {
                         const Json machine = TRY(find_machine(session, name));
                         session.out.data(TRY(console_log(machine, *lines)));
                         return {};
                     })
        ->add_option("-n,--lines", *lines, "Only the last lines.");
    add_machine_verb(noun, "stats", "Print its counters as JSON.", session, wanted,
                     [&session](const std::string& name) { return statistics(session, name); });
    add_vm_disk_verbs(noun, session);
}

}  // namespace kumoi::cli
