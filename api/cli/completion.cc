#include "api/cli/completion.h"

#include <vector>

#include "api/cli/command.h"

namespace kumoi::cli {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
    return app.get_subcommands([](const CLI::App*) { return true; });
}

// "--flavor --network": every long option of a command.
std::string options_of(const CLI::App& app) {
    std::string out;
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) {
            out += (out.empty() ? "--" : " --") + name;
        }
    }
    return out;
}

std::string names_of(const CLI::App& app) {
    std::string out;
    for (const CLI::App* command : commands_of(app)) {
        out += (out.empty() ? "" : " ") + command->get_name();
    }
    return out;
}

// One line of a `case` for each noun and each verb: "noun verb") words.
std::string case_lines(const CLI::App& app, const std::string& set) {
    const std::string global = options_of(app);
    std::string out;
    for (const CLI::App* noun : commands_of(app)) {
        out += fmt::format("        \"{} \") {}=\"{} {}\" ;;\n", noun->get_name(), set,
                           names_of(*noun), commands_of(*noun).empty() ? options_of(*noun) : "");
        for (const CLI::App* verb : commands_of(*noun)) {
            out += fmt::format("        \"{} {}\") {}=\"{} {}\" ;;\n", noun->get_name(),
                               verb->get_name(), set, options_of(*verb), global);
        }
    }
    return out;
}

std::string bash_script(const CLI::App& app) {
    return fmt::format(
        "# bash completion of kumoi: source <(kumoi completion bash)\n"
        "_kumoi() {{\n"
        "    local words=() word choices\n"
        "    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n"
        "        [[ $word == -* ]] || words+=(\"$word\")\n"
        "    done\n"
        "    case \"${{words[0]-}} ${{words[1]-}}\" in\n"
        "        \" \") choices=\"{} {}\" ;;\n"
        "{}"
        "    esac\n"
        "    COMPREPLY=($(compgen -W \"$choices\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n"
        "}}\n"
        "complete -F _kumoi kumoi\n",
        names_of(app), options_of(app), case_lines(app, "choices"));
}

std::string zsh_script(const CLI::App& app) {
    return fmt::format(
        "#compdef kumoi\n"
        "# zsh completion of kumoi: source <(kumoi completion zsh)\n"
        "_kumoi() {{\n"
        "    local -a given\n"
        "    local choices word\n"
        "    for word in \"${{(@)words[2,CURRENT-1]}}\"; do\n"
        "        [[ $word == -* ]] || given+=(\"$word\")\n"
        "    done\n"
        "    case \"${{given[1]-}} ${{given[2]-}}\" in\n"
        "        \" \") choices=\"{} {}\" ;;\n"
        "{}"
        "    esac\n"
        "    compadd -- ${{=choices}}\n"
        "}}\n"
        "compdef _kumoi kumoi\n",
        names_of(app), options_of(app), case_lines(app, "choices"));
}

std::string fish_quote(const std::string& text) {
    std::string out = "'";
    for (const char character : text) {
        out += character == '\'' ? std::string("\\'") : std::string(1, character);
    }
    return out + "'";
}

std::string fish_options(const CLI::App& app, const std::string& condition) {
    std::string out;
    for (const CLI::Option* option : app.get_options()) {
        for (const std::string& name : option->get_lnames()) {
            out += fmt::format("complete -c kumoi -n {} -l {} -d {}\n", fish_quote(condition), name,
                               fish_quote(option->get_description()));
        }
    }
    return out;
}

std::string fish_script(const CLI::App& app) {
    std::string out =
        "# fish completion of kumoi: kumoi completion fish | source\ncomplete -c kumoi -f\n";
    for (const CLI::App* noun : commands_of(app)) {
        out += fmt::format("complete -c kumoi -n '__fish_use_subcommand' -a {} -d {}\n",
                           noun->get_name(), fish_quote(noun->get_description()));
        const std::string verbs = names_of(*noun);
        for (const CLI::App* verb : commands_of(*noun)) {
            const std::string in_noun = fmt::format(
                "__fish_seen_subcommand_from {0}; and not "
                "__fish_seen_subcommand_from {1}",
                noun->get_name(), verbs);
            out += fmt::format("complete -c kumoi -n {} -a {} -d {}\n", fish_quote(in_noun),
                               verb->get_name(), fish_quote(verb->get_description()));
            out += fish_options(*verb, fmt::format("__fish_seen_subcommand_from {}; and "
                                                   "__fish_seen_subcommand_from {}",
                                                   noun->get_name(), verb->get_name()));
        }
    }
    return out + fish_options(app, "true");
}

}  // namespace

Result<std::string> completion_script(const CLI::App& app, const std::string& shell) {
    if (shell == "bash") {
        return bash_script(app);
    }
    if (shell == "zsh") {
        return zsh_script(app);
    }
    if (shell == "fish") {
        return fish_script(app);
    }
    return Error::invalid("There is no completion for shell {}.", shell)
        .with_hint("Choose bash, zsh or fish.");
}

void add_completion_command(CLI::App& app, Session& session) {
    auto shell = std::make_shared<std::string>();  // shared with the callback
    CLI::App* command = app.add_subcommand("completion", "Print a completion script.");
    command->fallthrough();
    command->add_option("shell", *shell, "bash, zsh or fish.")->required();
    command->callback([&app, &session, shell] {
        session.action = [&app, &session, shell]() -> Result<void> {
            session.out.data(TRY(completion_script(app, *shell)));
            return {};
        };
    });
}

}  // namespace kumoi::cli
