#include "api/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "base/fd.h"

namespace kumoi::cli {
namespace {

bool same_title(std::string_view left, std::string_view right) {
    return std::equal(left.begin(), left.end(), right.begin(), right.end(), [](char a, char b) {
        return std::tolower(static_cast<unsigned char>(a)) ==
               std::tolower(static_cast<unsigned char>(b));
    });
}

Result<std::vector<Column>> chosen_columns(const OutputOptions& options,
                                           const std::vector<Column>& columns) {
    if (options.columns.empty()) {
        return columns;
    }
    std::vector<Column> chosen;
    for (const std::string& name : options.columns) {
        const auto found = std::find_if(columns.begin(), columns.end(), [&](const Column& column) {
            return same_title(column.title, name) || column.member == name;
        });
        if (found == columns.end()) {
            std::string titles;
            for (const Column& column : columns) {
                titles += (titles.empty() ? "" : ", ") + column.title;
            }
            return Error::invalid("There is no column {}.", name)
                .with_hint("The columns are: " + titles + ".");
        }
        chosen.push_back(*found);
    }
    return chosen;
}

std::string pad(const std::string& text, size_t width, bool right_aligned) {
    const size_t have = display_width(text);
    const std::string fill(width > have ? width - have : 0, ' ');
    return right_aligned ? fill + text : text + fill;
}

std::string table_line(const std::vector<std::string>& cells, const std::vector<Column>& columns,
                       const std::vector<size_t>& widths) {
    std::string line;
    for (size_t index = 0; index < cells.size(); ++index) {
        line += (index == 0 ? "" : "  ") +
                pad(cells[index], widths[index], columns[index].right_aligned);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line + "\n";
}

std::string render_table(const std::vector<Column>& columns,
                         const std::vector<std::vector<std::string>>& rows, bool colour) {
    std::vector<std::string> titles;
    std::vector<size_t> widths;
    for (const Column& column : columns) {
        titles.push_back(column.title);
        widths.push_back(display_width(column.title));
    }
    for (const auto& row : rows) {
        for (size_t index = 0; index < row.size(); ++index) {
            widths[index] = std::max(widths[index], display_width(row[index]));
        }
    }
    std::string head = table_line(titles, columns, widths);
    if (colour) {
        head = "\033[1m" + head.substr(0, head.size() - 1) + "\033[0m\n";
    }
    std::string out = std::move(head);
    for (const auto& row : rows) {
        out += table_line(row, columns, widths);
    }
    return out;
}

std::string csv_cell(const std::string& text) {
    if (text.find_first_of(",\"\n\r") == std::string::npos) {
        return text;
    }
    std::string out = "\"";
    for (const char character : text) {
        out += character == '"' ? std::string("\"\"") : std::string(1, character);
    }
    return out + "\"";
}

std::string csv_line(const std::vector<std::string>& cells) {
    std::string line;
    for (size_t index = 0; index < cells.size(); ++index) {
        line += (index == 0 ? "" : ",") + csv_cell(cells[index]);
    }
    return line + "\n";
}

// Every JSON value is also YAML: scalars and empty collections are written as JSON, the rest as
// indented blocks.
void append_yaml(const Json& value, size_t indent, std::string& out) {
    const std::string margin(indent, ' ');
    if (value.is_object() && value.size() > 0) {
        for (const auto& [key, member] : value.as_object()) {
            const bool block = (member.is_object() || member.is_array()) && member.size() > 0;
            out += margin + Json(key).dump() + ":";
            if (block) {
                out += "\n";
                append_yaml(member, indent + 2, out);
            } else {
                out += " " + member.dump() + "\n";
            }
        }
    } else if (value.is_array() && value.size() > 0) {
        for (const Json& item : value.as_array()) {
            std::string block;
            append_yaml(item, indent + 2, block);
            block.replace(indent, 1, "-");  // "- " in place of the item's first two blanks
            out += block;
        }
    } else {
        out += margin + value.dump() + "\n";
    }
}

// With -c: only the chosen members, under the API's keys. Without: the whole record.
Json shown_members(const OutputOptions& options, const std::vector<Column>& columns,
                   const Json& record) {
    if (options.columns.empty()) {
        return record;
    }
    Json shown = Json::object();
    for (const Column& column : columns) {
        const Json* value = member_at(record, column.member);
        shown.set(column.member, value == nullptr ? Json() : *value);
    }
    return shown;
}

std::vector<std::string> cells_of(const std::vector<Column>& columns, const Json& record,
                                  bool for_people) {
    std::vector<std::string> cells;
    for (const Column& column : columns) {
        std::string text = cell_text(member_at(record, column.member));
        cells.push_back(for_people ? printable(text) : std::move(text));
    }
    return cells;
}

std::string render_document(Format format, const Json& document) {
    if (format == Format::Json) {
        return document.dump_pretty() + "\n";
    }
    std::string out;
    append_yaml(document, 0, out);
    return out;
}

void write_to(int fd, std::string_view text) {
    // A reader that went away (`kumoi server list | head`) is not worth a message.
    static_cast<void>(write_all(fd, std::as_bytes(std::span(text))));
}

}  // namespace

const Json* member_at(const Json& record, std::string_view path) {
    // Some keys hold dots themselves; the whole path is tried first.
    if (const Json* whole = record.find(path)) {
        return whole;
    }
    const size_t dot = path.find('.');
    if (dot == std::string_view::npos) {
        return nullptr;
    }
    const Json* parent = record.find(path.substr(0, dot));
    return parent == nullptr ? nullptr : member_at(*parent, path.substr(dot + 1));
}

std::string cell_text(const Json* value) {
    if (value == nullptr || value->is_null()) {
        return "-";
    }
    if (value->is_string()) {
        return value->as_string().empty() ? "-" : value->as_string();
    }
    return value->dump();
}

size_t display_width(std::string_view utf8) {
    return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char character) {
        return (static_cast<unsigned char>(character) & 0xc0) != 0x80;
    }));
}

std::string printable(std::string_view text) {
    std::string out(text);
    for (char& character : out) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte < 0x20 || byte == 0x7f) {
            character = byte == '\n' || byte == '\t' ? ' ' : '?';
        }
    }
    return out;
}

Result<std::string> render_list(const OutputOptions& options, const std::vector<Column>& columns,
                                const Json::Array& records) {
    const auto chosen = TRY(chosen_columns(options, columns));
    if (options.format == Format::Json || options.format == Format::Yaml) {
        Json document = Json::array();
        for (const Json& record : records) {
            document.push_back(shown_members(options, chosen, record));
        }
        return render_document(options.format, document);
    }
    std::vector<std::vector<std::string>> rows;
    for (const Json& record : records) {
        rows.push_back(cells_of(chosen, record, options.format != Format::Csv));
    }
    if (options.format == Format::Table) {
        return render_table(chosen, rows, options.colour);
    }
    std::string out;
    if (options.format == Format::Csv) {
        std::vector<std::string> titles;
        for (const Column& column : chosen) {
            titles.push_back(column.title);
        }
        out = csv_line(titles);
    }
    for (const auto& row : rows) {
        if (options.format == Format::Csv) {
            out += csv_line(row);
            continue;
        }
        for (size_t index = 0; index < row.size(); ++index) {
            out += (index == 0 ? "" : " ") + row[index];
        }
        out += "\n";
    }
    return out;
}

Result<std::string> render_record(const OutputOptions& options, const std::vector<Column>& columns,
                                  const Json& record) {
    const auto chosen = TRY(chosen_columns(options, columns));
    if (options.format == Format::Json || options.format == Format::Yaml) {
        return render_document(options.format, shown_members(options, chosen, record));
    }
    const auto cells = cells_of(chosen, record, options.format != Format::Csv);
    std::string out;
    if (options.format == Format::Value) {
        for (const std::string& cell : cells) {
            out += cell + "\n";
        }
        return out;
    }
    std::vector<std::vector<std::string>> rows;
    for (size_t index = 0; index < cells.size(); ++index) {
        rows.push_back({chosen[index].title, cells[index]});
    }
    if (options.format == Format::Csv) {
        for (const auto& row : rows) {
            out += csv_line(row);
        }
        return out;
    }
    return render_table({{"FIELD", ""}, {"VALUE", ""}}, rows, options.colour);
}

Result<void> Output::list(const std::vector<Column>& columns, const Json::Array& records) const {
    data(TRY(render_list(options, columns, records)));
    return {};
}

Result<void> Output::record(const std::vector<Column>& columns, const Json& record) const {
    data(TRY(render_record(options, columns, record)));
    return {};
}

void Output::data(std::string_view text) const {
    write_to(STDOUT_FILENO, text);
}

void Output::say(std::string_view line) const {
    write_to(STDERR_FILENO, fmt::format("{}{}\n", line_open_ ? "\r\033[K" : "", line));
    line_open_ = false;
}

void Output::progress(std::string_view line) const {
    if (!options.talk_on_terminal) {
        say(line);
        return;
    }
    write_to(STDERR_FILENO, fmt::format("\r\033[K{}", line));
    line_open_ = true;
}

void Output::error(const Error& error) const {
    const bool colour = options.talk_on_terminal && options.colour;
    say(fmt::format("{}Error:{} {}", colour ? "\033[31m" : "", colour ? "\033[0m" : "",
                    error.message));
    if (!error.hint.empty()) {
        say(error.hint);
    }
}

}  // namespace kumoi::cli
