// Shorthands for declaring commands over CLI11. Included by the noun files only: CLI11 is large.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <functional>
#include <string>

#include "api/cli/session.h"

namespace kumoi::cli {

inline CLI::App* add_noun(CLI::App& app, const std::string& name, const std::string& help) {
    CLI::App* noun = app.add_subcommand(name, help);
    noun->fallthrough();
    noun->require_subcommand(1);
    return noun;
}

// `action` runs after the whole command line was understood.
inline CLI::App* add_verb(CLI::App* noun, const std::string& name, const std::string& help,
                          Session& session, std::function<Result<void>()> action) {
    CLI::App* verb = noun->add_subcommand(name, help);
    verb->fallthrough();
    verb->callback([&session, action = std::move(action)] { session.action = action; });
    return verb;
}

}  // namespace kumoi::cli
