#include "sim/planetlab_command.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include "base/json.h"
#include "sim/planetlab/policy.h"

namespace kumoi::sim {

namespace {

struct PlanetlabArguments {
    std::string traces;
    std::vector<std::string> days;
    std::vector<std::string> policies;
    std::optional<double> parameter;
    std::string mode = "cloudsim";
    std::string format = "text";
    size_t hosts = 800;
    uint64_t seed = 1;
    unsigned jobs = 1;
};

struct Run {
    const TraceDay* day;
    std::string policy;
    DayOptions options;
    DayResult result;
};

// To so many places as CloudSim prints, so that results can be compared as text.
double rounded(double value, int places) {
    const double scale = std::pow(10, places);
    return std::round(value * scale) / scale;
}

Json to_json(const Run& run, const PlanetlabArguments& arguments) {
    const DayResult& result = run.result;
    return Json::object({{"day", run.day->day},
                         {"policy", run.policy},
                         {"mode", arguments.mode},
                         {"parameter", run.options.detector.parameter},
                         {"seed", arguments.seed},
                         {"hosts", run.options.host_count},
                         {"machines", result.machines},
                         {"not_placed", result.not_placed},
                         {"energy_kwh", rounded(result.energy_kwh, 4)},
                         {"migrations", result.migrations},
                         {"slav_pct", rounded(result.slav() * 100, 7)},
                         {"pdm_pct", rounded(result.pdm * 100, 5)},
                         {"slatah_pct", rounded(result.slatah * 100, 5)},
                         {"sla_overall_pct", rounded(result.sla_overall * 100, 5)},
                         {"sla_average_pct", rounded(result.sla_average * 100, 5)},
                         {"host_shutdowns", result.host_shutdowns},
                         {"esv", rounded(result.esv(), 9)}});
}

void print_runs(const std::vector<Run>& runs, const PlanetlabArguments& arguments) {
    if (arguments.format == "json") {
        for (const Run& run : runs) {
            std::printf("%s\n", to_json(run, arguments).dump().c_str());
        }
        return;
    }
    std::printf("%-9s %-8s %9s %10s %9s %7s %9s %9s %9s\n", "day", "policy", "energy", "migrations",
                "SLAV %", "PDM %", "SLATAH %", "shutdowns", "ESV");
    for (const Run& run : runs) {
        const DayResult& result = run.result;
        std::printf("%-9s %-8s %5.2f kWh %9llu %9.5f %7.2f %9.2f %9llu %9.6f\n",
                    run.day->day.c_str(), run.policy.c_str(), result.energy_kwh,
                    static_cast<unsigned long long>(result.migrations), result.slav() * 100,
                    result.pdm * 100, result.slatah * 100,
                    static_cast<unsigned long long>(result.host_shutdowns), result.esv());
    }
}

Result<std::vector<TraceDay>> load_days(const PlanetlabArguments& arguments) {
    std::vector<std::string> names = arguments.days;
    if (names.size() == 1 && names.front() == "all") {
        names = TRY(list_trace_days(arguments.traces));
    }
    return load_trace_days(arguments.traces, names);
}

Result<std::vector<Run>> make_runs(const std::vector<TraceDay>& days,
                                   const PlanetlabArguments& arguments) {
    std::vector<std::string> policies = arguments.policies;
    if (policies.size() == 1 && policies.front() == "all") {
        policies = policy_names();
    }
    std::vector<Run> runs;
    for (const TraceDay& day : days) {
        for (const std::string& policy : policies) {
            DayOptions options = TRY(policy_options(policy));
            options.host_count = arguments.hosts;
            options.seed = arguments.seed;
            if (arguments.mode == "fixed") {
                options.mode = ConsolidationMode::Fixed;
            }
            if (arguments.parameter) {
                options.detector.parameter = *arguments.parameter;
            }
            runs.push_back({&day, policy, options, {}});
        }
    }
    return runs;
}

// Runs share nothing, so their results do not depend on the number of threads.
void simulate(std::vector<Run>& runs, unsigned jobs) {
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < jobs; ++i) {
        threads.emplace_back([&] {
            for (size_t at = next++; at < runs.size(); at = next++) {
                runs[at].result = simulate_day(*runs[at].day, runs[at].options);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

Result<void> run_planetlab(const PlanetlabArguments& arguments) {
    const std::vector<TraceDay> days = TRY(load_days(arguments));
    std::vector<Run> runs = TRY(make_runs(days, arguments));
    simulate(runs, arguments.jobs);
    for (const Run& run : runs) {
        if (run.result.not_placed > 0) {
            std::fprintf(stderr,
                         "kumoi-sim: %s %s: %zu of %zu machines found no room on %zu hosts\n",
                         run.day->day.c_str(), run.policy.c_str(), run.result.not_placed,
                         run.result.machines, run.options.host_count);
        }
    }
    print_runs(runs, arguments);
    return {};
}

}  // namespace

void add_planetlab_command(CLI::App& app, Action& action) {
    auto arguments = std::make_shared<PlanetlabArguments>();
    CLI::App* command = app.add_subcommand(
        "planetlab", "Consolidate the machines of PlanetLab days, as CloudSim 3.0.3 does.");
    command
        ->add_option("--traces", arguments->traces,
                     "File of lines `day,name,288 samples` (also .xz), or folder DIR/day/name.")
        ->required();
    command->add_option("--day", arguments->days, "YYYYMMDD, several with commas, or all.")
        ->required()
        ->delimiter(',');
    command
        ->add_option("--policy", arguments->policies,
                     "thr, mad, iqr, lr or lrr with mmt, mc, rs or mu (lr-mmt); dvfs; npa; "
                     "several with commas; or all.")
        ->required()
        ->delimiter(',');
    command
        ->add_option("--parameter", arguments->parameter,
                     "Of the detector. Default 0.8 (thr), 2.5 (mad), 1.5 (iqr), 1.2 (lr, lrr).")
        ->check(CLI::Range(0.0, 100.0));
    command
        ->add_option("--mode", arguments->mode,
                     "cloudsim: with the quirks of CloudSim 3.0.3; fixed: without. Default "
                     "cloudsim.")
        ->check(CLI::IsMember({"cloudsim", "fixed"}));
    command->add_option("--hosts", arguments->hosts, "How many. Default 800.")
        ->check(CLI::Range(1, 1000000));
    command->add_option("--seed", arguments->seed, "For the selector rs. Default 1.");
    command->add_option("--jobs", arguments->jobs, "Runs at a time. Default 1.")
        ->check(CLI::Range(1, 256));
    command
        ->add_option("--format", arguments->format,
                     "text, or json: one object a line. Default text.")
        ->check(CLI::IsMember({"text", "json"}));
    command->callback(
        [arguments, &action] { action = [arguments] { return run_planetlab(*arguments); }; });
}

}  // namespace kumoi::sim
