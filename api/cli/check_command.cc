// kumoi check: is this host fit to run servers?
#include "api/cli/command.h"
#include "api/cli/exit_code.h"
#include "api/cli/preflight.h"

namespace kumoi::cli {
namespace {

const char* mark(Verdict verdict) {
    switch (verdict) {
        case Verdict::Good: return "✓";
        case Verdict::Warning: return "!";
        case Verdict::Bad: return "✗";
    }
    return "?";
}

const char* word(Verdict verdict) {
    switch (verdict) {
        case Verdict::Good: return "good";
        case Verdict::Warning: return "warning";
        case Verdict::Bad: return "bad";
    }
    return "";
}

const char* colour(Verdict verdict) {
    switch (verdict) {
        case Verdict::Good: return "\033[32m";
        case Verdict::Warning: return "\033[33m";
        case Verdict::Bad: return "\033[31m";
    }
    return "";
}

void print_lines(Session& session, const std::vector<Finding>& findings) {
    const bool coloured = session.out.options.colour;
    for (const Finding& finding : findings) {
        session.out.data(fmt::format(" {}{}{} {}\n", coloured ? colour(finding.verdict) : "",
                                     mark(finding.verdict), coloured ? "\033[0m" : "",
                                     printable(finding.text)));
        if (!finding.hint.empty()) {
            session.out.data(fmt::format("     {}\n", printable(finding.hint)));
        }
    }
}

Result<void> check(Session& session) {
    const auto findings = preflight(session.state_path(), session.clock());
    const OutputOptions& options = session.out.options;
    if (options.format == Format::Table && options.columns.empty()) {
        print_lines(session, findings);
    } else {
        Json::Array records;
        for (const Finding& finding : findings) {
            records.push_back(Json::object({{"name", finding.name},
                                            {"verdict", word(finding.verdict)},
                                            {"text", finding.text},
                                            {"hint", finding.hint}}));
        }
        TRY(session.out.list(
            {{"NAME", "name"}, {"VERDICT", "verdict"}, {"TEXT", "text"}, {"HINT", "hint"}},
            records));
    }
    for (const Finding& finding : findings) {
        if (finding.verdict == Verdict::Bad) {
            session.exit_code = kFailed;
        }
    }
    return {};
}

}  // namespace

void add_check_command(CLI::App& app, Session& session) {
    CLI::App* command = app.add_subcommand("check", "Is this host fit to run servers?");
    command->fallthrough();
    command->callback([&session] { session.action = [&session] { return check(session); }; });
}

}  // namespace kumoi::cli
