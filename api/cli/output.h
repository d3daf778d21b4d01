// Output: data to stdout in the format the user chose, talk to stderr. Records are Json objects; a
// column is a title and the member it shows, so `-f json` carries the API's own keys and every
// format agrees. Colours and redrawn lines only on a terminal. One thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

enum class Format { Table, Json, Yaml, Csv, Value };

struct Column {
    std::string title;           // as -c names it, any case
    std::string member;          // "flavor.vcpus": members of members
    bool right_aligned = false;  // numbers
};

struct OutputOptions {
    Format format = Format::Table;
    std::vector<std::string> columns;  // chosen with -c; empty: all
    bool colour = false;               // of stdout
    bool talk_on_terminal = false;     // stderr may be redrawn
};

// Pure: the text of a list and of one record. InvalidArgument for an unknown -c.
Result<std::string> render_list(const OutputOptions& options, const std::vector<Column>& columns,
                                const Json::Array& records);
Result<std::string> render_record(const OutputOptions& options, const std::vector<Column>& columns,
                                  const Json& record);
// What a cell shows: strings as they are, null as "-", objects and lists as compact JSON.
std::string cell_text(const Json* value);
const Json* member_at(const Json& record, std::string_view path);
size_t display_width(std::string_view utf8);
// Nothing in it moves the cursor or changes colours: control characters become '?'.
std::string printable(std::string_view text);

class Output {
public:
    OutputOptions options;

    Result<void> list(const std::vector<Column>& columns, const Json::Array& records) const;
    Result<void> record(const std::vector<Column>& columns, const Json& record) const;
    void data(std::string_view text) const;      // stdout, as it is
    void say(std::string_view line) const;       // stderr, one line
    void progress(std::string_view line) const;  // stderr; replaced by the next on a terminal
    void error(const Error& error) const;        // stderr: "Error: ..." and the way out
    bool talks() const { return options.talk_on_terminal; }

private:
    mutable bool line_open_ = false;  // a progress line waits to be replaced or ended
};

}  // namespace kumoi::cli
