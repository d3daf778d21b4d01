// `kumoi-sim planetlab`: the consolidation experiment of Beloglazov and Buyya on PlanetLab days.
#pragma once

#include <CLI/CLI.hpp>

#include "sim/command.h"

namespace kumoi::sim {

void add_planetlab_command(CLI::App& app, Action& action);

}  // namespace kumoi::sim
