// kumoi: the command line client. See docs/man/kumoi.1.
#include <signal.h>

#include <cstdlib>

#include "api/cli/command_line.h"
#include "base/clock.h"

int main(int argc, char** argv) {
    signal(SIGPIPE, SIG_IGN);  // `kumoi server list | head`: write() says so, quietly
    const kumoi::SystemClock clock;
    kumoi::cli::Session session(clock, [](const std::string& name) {
        const char* value = std::getenv(name.c_str());
        return value == nullptr || *value == '\0' ? std::optional<std::string>()
                                                  : std::optional<std::string>(value);
    });
    return kumoi::cli::run_command_line({argv + 1, argv + argc}, session);
}
