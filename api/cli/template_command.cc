// kumoi template: an image made of a stopped server, protected, that remembers the server's flavor.
// Servers launched from it are linked clones of it (docs/reference/templates.md). Any OpenStack
// cloud will do: a template is an image with two properties.
#include "api/cli/command.h"
#include "api/cli/find.h"
#include "api/cli/image_transfer.h"
#include "api/cli/server_launch.h"
#include "api/cli/server_waiting.h"

namespace kumoi::cli {
namespace {

constexpr char kMark[] = "kumoi_template";           // "true"
constexpr char kFlavor[] = "kumoi_template_flavor";  // the name of the server's

const std::vector<Column> kColumns{{"ID", "id"},
                                   {"NAME", "name"},
                                   {"STATUS", "status"},
                                   {"FLAVOR", kFlavor},
                                   {"BYTES", "size", true},
                                   {"MIN_DISK_GIB", "min_disk", true},
                                   {"CREATED", "created_at"}};

Result<Json::Array> templates(Session& session) {
    Json::Array images = TRY(TRY(session.cloud())->list("image", "/images", "images"));
    std::erase_if(images, [](const Json& image) { return image.string_or(kMark) != "true"; });
    return images;
}

Result<Json> find_template(Session& session, const std::string& wanted) {
    return find_one("template", TRY(templates(session)), wanted);
}

Result<void> protect(Session& session, const std::string& id, bool on) {
    Json changes = Json::array();
    changes.push_back(Json::object({{"op", "replace"}, {"path", "/protected"}, {"value", on}}));
    TRY(TRY(session.cloud())->patch("image", "/images/" + id, changes));
    return {};
}

Result<void> create(Session& session, const std::string& wanted, const std::string& name) {
    const Json server = TRY(find_server(session, wanted));
    if (server.string_or("status") != "SHUTOFF") {
        return Error::conflict("Server {} is {}; a template is made of a stopped server",
                               server.string_or("name"), server.string_or("status"))
            .with_hint("Prepare it, then: kumoi server stop " + server.string_or("name"));
    }
    const Json* flavor = server.find("flavor");
    Json metadata = Json::object({{kMark, "true"}});
    if (flavor != nullptr && !flavor->string_or("original_name").empty()) {
        metadata.set(kFlavor, flavor->string_or("original_name"));
    }
    const Json body = Json::object(
        {{"createImage", Json::object({{"name", name}, {"metadata", std::move(metadata)}})}});
    const std::string path = "/servers/" + server.string_or("id") + "/action";
    const Json answer = TRY(TRY(session.cloud())->post("compute", path, body));
    const std::string id = answer.string_or("image_id");
    if (id.empty()) {
        return Error::corrupt("the Compute API did not say which image it makes");
    }
    TemporaryImages image(session);  // unless it becomes a template
    image.add(id);
    TRY(wait_for_image(session, id));
    TRY(protect(session, id, true));
    image.keep();
    session.out.say(fmt::format(" template {} is ready", name));
    session.out.data(id + "\n");
    return {};
}

// A flavor that is gone leaves the choice to launch.
Result<void> launch(Session& session, const std::string& wanted, LaunchOptions options) {
    const Json found = TRY(find_template(session, wanted));
    options.image = found.string_or("id");
    if (options.flavor.empty()) {
        const auto flavors =
            TRY(TRY(session.cloud())->list("compute", "/flavors/detail", "flavors"));
        for (const Json& flavor : flavors) {
            if (flavor.string_or("name") == found.string_or(kFlavor)) {
                options.flavor = flavor.string_or("id");
            }
        }
    }
    return launch_server(session, options);
}

Result<void> remove(Session& session, const std::string& wanted) {
    const std::string id = TRY(find_template(session, wanted)).string_or("id");
    TRY(protect(session, id, false));
    auto removed = TRY(session.cloud())->remove("image", "/images/" + id);
    if (!removed.ok()) {
        (void)protect(session, id, true);
    }
    return removed;
}

}  // namespace

void add_template_commands(CLI::App& app, Session& session) {
    CLI::App* noun = add_noun(app, "template", "Templates: protected images made of servers.");
    auto wanted = std::make_shared<std::string>();  // shared with the callbacks
    auto name = std::make_shared<std::string>();    // shared with the callback
    CLI::App* verb = add_verb(noun, "create", "Make one of a stopped server, which stays.", session,
                              [&session, wanted, name] { return create(session, *wanted, *name); });
    verb->add_option("server", *wanted, "Name or id.")->required();
    verb->add_option("name", *name, "Name of the template.")->required();
    add_verb(noun, "list", "List them.", session, [&session]() -> Result<void> {
        return session.out.list(kColumns, TRY(templates(session)));
    });
    auto options = std::make_shared<LaunchOptions>();  // shared with the callback
    verb = add_verb(noun, "launch", "Make a server of it: a linked clone.", session,
                    [&session, wanted, options] { return launch(session, *wanted, *options); });
    verb->add_option("template", *wanted, "Name or id.")->required();
    verb->add_option("name", options->name, "Name of the new server.")->required();
    verb->add_option("--flavor", options->flavor, "Default: the flavor of the template's server.");
    verb->add_option("--network", options->networks,
                     "Network, may be repeated. Default: the only one.");
    verb->add_option("--key-name", options->key_name, "Key pair for the guest.");
    verb->add_option("--user-data", options->user_data_file, "File for cloud-init.");
    verb->add_flag("--config-drive", options->config_drive, "Give it a config drive.");
    add_verb(noun, "delete", "Delete one; servers launched from it stay.", session,
             [&session, wanted] { return remove(session, *wanted); })
        ->add_option("template", *wanted, "Name or id.")
        ->required();
}

}  // namespace kumoi::cli
