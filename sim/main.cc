// kumoi-sim: the simulator. Command line in, exit code out: 0 done, 1 failed, 2 wrong use.
#include <cstdio>

#include "base/version.h"
#include "sim/planetlab_command.h"

int main(int argc, char** argv) {
    CLI::App app("kumoi-sim simulates clouds: placement, consolidation, power.", "kumoi-sim");
    app.set_version_flag("--version", std::string("kumoi-sim ") + kumoi::kVersion);
    app.require_subcommand(1);
    kumoi::sim::Action action;
    kumoi::sim::add_planetlab_command(app, action);
    try {  // CLI11 reports by exceptions; nothing else throws
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (const auto done = action(); !done.ok()) {
        std::fprintf(stderr, "kumoi-sim: %s\n", done.error().text().c_str());
        return 1;
    }
    return 0;
}
