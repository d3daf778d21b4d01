// kumoi server: suspend, rescue, rebuild, resize, shelve, image and what takes each back. All wait
// until the server has arrived; one that came to rest elsewhere failed, and its task log says why.
#include <algorithm>

#include "api/cli/command.h"
#include "api/cli/find.h"
#include "api/cli/server_lifecycle_command.h"
#include "api/cli/server_migration.h"
#include "api/cli/server_waiting.h"

namespace kumoi::cli {
namespace {

struct Verb {
    const char* name;
    const char* help;
    const char* action;                // of POST /servers/{id}/action, with null
    std::vector<const char*> arrived;  // statuses to wait for; empty: none
};

const std::vector<Verb>& plain_verbs() {
    static const std::vector<Verb> verbs{
        {"suspend", "Keep servers' memory on disk and turn them off.", "suspend", {"SUSPENDED"}},
        {"resume", "Let suspended servers run on.", "resume", {"ACTIVE"}},
        {"unrescue", "Boot rescued servers from their own disks again.", "unrescue", {"ACTIVE"}},
        {"confirm",
         "Keep the new size and drop the old disks.",
         "confirmResize",
         {"ACTIVE", "SHUTOFF"}},
        {"revert",
         "Go back to the old size and the disks from before.",
         "revertResize",
         {"ACTIVE", "SHUTOFF"}},
        {"shelve",
         "Turn servers into images and free their place.",
         "shelve",
         {"SHELVED", "SHELVED_OFFLOADED"}},
        {"unshelve", "Bring shelved servers back.", "unshelve", {"ACTIVE"}},
        {"restore", "Bring deleted servers back that are still kept.", "restore", {"ACTIVE"}},
        {"unlock", "Let the owner change servers again.", "unlock", {}},
    };
    return verbs;
}

// A deleted server that is kept is in no list but this one.
Result<Json> find_kept_server(Session& session, const std::string& wanted) {
    return find_one("server",
                    TRY(TRY(session.cloud())
                            ->list("compute", "/servers/detail?status=SOFT_DELETED", "servers")),
                    wanted);
}

Result<Json> post_action(Session& session, const std::string& id, const Json& body) {
    return TRY(session.cloud())->post("compute", "/servers/" + id + "/action", body);
}

Result<Json> wait_until(Session& session, const std::string& id, const std::string& doing,
                        const std::vector<const char*>& arrived) {
    return wait_for_server(session, id, [&](const Json& now) -> Result<bool> {
        const std::string status = now.string_or("status");
        if (status == "ERROR") {
            return fault_of(now);
        }
        if (!now.string_or("OS-EXT-STS:task_state").empty()) {
            return false;
        }
        if (const auto failure = TRY(failed_action(*TRY(session.cloud()), id))) {
            return Error::internal("Server {} is {}: {} failed: {}", now.string_or("name"),
                                   phase_of(now), doing, *failure);
        }
        return std::any_of(arrived.begin(), arrived.end(),
                           [&](const char* wanted) { return status == wanted; });
    });
}

Result<void> settle(Session& session, const std::string& id, const std::string& doing,
                    const std::vector<const char*>& arrived) {
    if (session.options.no_wait || arrived.empty()) {
        return {};
    }
    const Json seen = TRY(wait_until(session, id, doing, arrived));
    session.out.say(fmt::format(" {}  {}", seen.string_or("name"), phase_of(seen)));
    return {};
}

Result<void> run_plain(Session& session, const Verb& verb, const std::vector<std::string>& wanted) {
    const bool kept = std::string_view(verb.name) == "restore";
    for (const std::string& name : wanted) {
        const Json server =
            TRY(kept ? find_kept_server(session, name) : find_server(session, name));
        const std::string id = server.string_or("id");
        TRY(post_action(session, id, Json::object({{verb.action, Json()}})));
        TRY(settle(session, id, verb.name, verb.arrived));
    }
    return {};
}

Result<std::string> find_id(Session& session, const char* service, const char* path,
                            const char* collection, const char* kind, const std::string& wanted) {
    const auto records = TRY(TRY(session.cloud())->list(service, path, collection));
    return TRY(find_one(kind, records, wanted)).string_or("id");
}

Result<std::string> image_id(Session& session, const std::string& wanted) {
    return find_id(session, "image", "/images", "images", "image", wanted);
}

struct Arguments {
    std::string server;
    std::string image;
    std::string name;
    std::string flavor;
    std::string reason;
    std::string password;
    bool confirm = false;
};

Result<void> rescue(Session& session, const Arguments& arguments) {
    const std::string id = TRY(find_server(session, arguments.server)).string_or("id");
    Json body = Json::object();
    if (!arguments.image.empty()) {
        body.set("rescue_image_ref", TRY(image_id(session, arguments.image)));
    }
    if (!arguments.password.empty()) {
        body.set("adminPass", arguments.password);
    }
    const Json answer = TRY(post_action(session, id, Json::object({{"rescue", std::move(body)}})));
    TRY(settle(session, id, "rescue", {"RESCUE"}));
    session.out.say(fmt::format(" password: {}", answer.string_or("adminPass")));
    return {};
}

Result<void> rebuild(Session& session, const Arguments& arguments) {
    const Json server = TRY(find_server(session, arguments.server));
    const std::string id = server.string_or("id");
    const Json* own = server.find("image");
    Json body = Json::object();
    body.set("imageRef", arguments.image.empty() && own != nullptr
                             ? own->string_or("id")
                             : TRY(image_id(session, arguments.image)));
    if (!arguments.name.empty()) {
        body.set("name", arguments.name);
    }
    if (!arguments.password.empty()) {
        body.set("adminPass", arguments.password);
    }
    TRY(post_action(session, id, Json::object({{"rebuild", std::move(body)}})));
    return settle(session, id, "rebuild", {"ACTIVE", "SHUTOFF"});
}

Result<void> resize(Session& session, const Arguments& arguments) {
    const std::string id = TRY(find_server(session, arguments.server)).string_or("id");
    const std::string flavor =
        TRY(find_id(session, "compute", "/flavors/detail", "flavors", "flavor", arguments.flavor));
    TRY(post_action(session, id,
                    Json::object({{"resize", Json::object({{"flavorRef", flavor}})}})));
    if (session.options.no_wait && !arguments.confirm) {
        return {};
    }
    const Json seen = TRY(wait_until(session, id, "resize", {"VERIFY_RESIZE"}));
    if (arguments.confirm) {
        TRY(post_action(session, id, Json::object({{"confirmResize", Json()}})));
        return settle(session, id, "confirm", {"ACTIVE", "SHUTOFF"});
    }
    const std::string name = seen.string_or("name");
    session.out.say(
        fmt::format(" {0}  resized; old and new size are held until you say\n"
                    "   kumoi server confirm {0}    or    kumoi server revert {0}",
                    name));
    return {};
}

Result<void> lock(Session& session, const Arguments& arguments) {
    const std::string id = TRY(find_server(session, arguments.server)).string_or("id");
    Json body =
        arguments.reason.empty() ? Json() : Json::object({{"locked_reason", arguments.reason}});
    TRY(post_action(session, id, Json::object({{"lock", std::move(body)}})));
    return {};
}

Result<void> create_image(Session& session, const Arguments& arguments) {
    const Json server = TRY(find_server(session, arguments.server));
    const std::string id = server.string_or("id");
    const std::string name =
        arguments.name.empty() ? server.string_or("name") + "-image" : arguments.name;
    const Json answer = TRY(
        post_action(session, id, Json::object({{"createImage", Json::object({{"name", name}})}})));
    if (!session.options.no_wait) {
        TRY(wait_until(session, id, "createImage", {"ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED"}));
        session.out.say(fmt::format(" image {} is ready", name));
    }
    session.out.data(answer.string_or("image_id") + "\n");
    return {};
}

using Shared = std::shared_ptr<Arguments>;  // shared with the callback of its verb
using Run = Result<void> (*)(Session& session, const Arguments& arguments);

CLI::App* add_one(CLI::App* noun, Session& session, const char* name, const char* help, Run run,
                  const Shared& arguments) {
    CLI::App* verb = add_verb(noun, name, help, session,
                              [&session, run, arguments] { return run(session, *arguments); });
    verb->add_option("server", arguments->server, "Name or id.")->required();
    return verb;
}

void add_plain_verbs(CLI::App* noun, Session& session) {
    for (const Verb& verb : plain_verbs()) {
        auto servers = std::make_shared<std::vector<std::string>>();  // shared with the callback
        add_verb(noun, verb.name, verb.help, session,
                 [&session, &verb, servers] { return run_plain(session, verb, *servers); })
            ->add_option("server", *servers, "Names or ids.")
            ->required();
    }
}

}  // namespace

void add_server_lifecycle_verbs(CLI::App* noun, Session& session) {
    add_plain_verbs(noun, session);
    auto arguments = std::make_shared<Arguments>();  // one verb runs: they may share it
    CLI::App* verb = add_one(noun, session, "rescue",
                             "Boot another image beside the server's disk.", rescue, arguments);
    verb->add_option("--image", arguments->image, "Image. Default: the server's own.");
    verb->add_option("--password", arguments->password, "For the rescue system.");
    verb = add_one(noun, session, "rebuild",
                   "Make the server anew; its disk is lost, id and addresses stay.", rebuild,
                   arguments);
    verb->add_option("--image", arguments->image, "Image. Default: the server's own.");
    verb->add_option("--name", arguments->name, "New name.");
    verb->add_option("--password", arguments->password, "For the new system.");
    verb = add_one(noun, session, "resize", "Give the server another size.", resize, arguments);
    verb->add_option("flavor", arguments->flavor, "Flavor: name or id.")->required();
    verb->add_flag("--confirm", arguments->confirm, "Confirm at once.");
    verb = add_one(noun, session, "lock", "Refuse the owner's changes until unlocked.", lock,
                   arguments);
    verb->add_option("--reason", arguments->reason, "Shown to who is refused.");
    CLI::App* image = noun->add_subcommand("image", "Images made of servers.");
    image->fallthrough();
    image->require_subcommand(1);
    verb = add_one(image, session, "create", "Make an image of the server's disk.", create_image,
                   arguments);
    verb->add_option("--name", arguments->name, "Default: the server's name and -image.");
}

}  // namespace kumoi::cli
