#include "api/options.h"

#include "api/amqp/amqp_options.h"
#include "base/file.h"
#include "compute/clients/client_options.h"
#include "compute/options.h"

namespace kumoi::api {

const OptionTable& options() {
    static const OptionTable table = [] {
        OptionTable all = compute::option_table();
        all.add_all(amqp::amqp_option_table());
        all.add_all(clients::client_option_table());
        return all;
    }();
    return table;
}

Result<ReadConfig> read_configuration(const std::vector<std::string>& paths) {
    std::string text;
    std::string names;
    for (const std::string& path : paths) {
        text += TRY(read_file(path)) + "\n[DEFAULT]\n";
        names += (names.empty() ? "" : ", ") + path;
    }
    ReadConfig read{Config::defaults(options()), {}};
    read.config = TRY(Config::parse_shared(text, options(), read.unknown, names));
    if (read.config.string("DEFAULT", "mode") != "openstack") {
        read.config = TRY(Config::parse(text, options(), names));
        read.unknown.clear();
    }
    return read;
}

}  // namespace kumoi::api
