#include "sim/planetlab/trace_file.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "sim/planetlab/line_reader.h"

namespace kumoi::sim {
namespace {

std::string line_of(const std::string& day, const std::string& name, unsigned first) {
    std::string line = day + "," + name + ",";
    for (size_t i = 0; i < kSamplesPerDay; ++i) {
        line += (i == 0 ? "" : " ") + std::to_string((first + i) % 101);
    }
    return line;
}

class TraceFileTest : public ::testing::Test {
protected:
    void write(const std::string& text) { ASSERT_TRUE(write_file_atomic(path(), text).ok()); }
    std::string path() const { return folder_.path() + "/traces"; }
    TemporaryDirectory folder_ = TemporaryDirectory::create("kumoi-traces-").value();
};

TEST_F(TraceFileTest, ADayIsSortedByName) {
    write(line_of("a", "z", 5) + "\n" + line_of("b", "m", 1) + "\r\n" + line_of("a", "c,d", 7));
    const TraceDay day = load_trace_days(path(), {"a"}).value().front();
    ASSERT_EQ(day.traces.size(), 2u);
    EXPECT_EQ(day.traces[0].name, "c,d");
    EXPECT_EQ(day.traces[0].percent[0], 7);
    EXPECT_EQ(day.traces[1].percent[287], (5 + 287) % 101);
    EXPECT_EQ(list_trace_days(path()).value(), (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(load_trace_days(path(), {"b"}).value().front().traces.size(), 1u);
}

TEST_F(TraceFileTest, WrongLinesNameThemselves) {
    const std::pair<std::string, std::string> cases[] = {
        {"a,b", "line 1: expected `day,name,S S S ...`"},
        {line_of("a", "b", 1) + " 5", "line 1: more than 288 samples"},
        {"a,b,1 2 x", "line 1: expected a sample from 0 to 100, found \"x\""},
        {"a,b,1 2 -3", "found \"-3\""},
        {"a,b,1 2", "line 1: 2 samples, expected 288"},
        {"a,b,99999999999999999999", "found \"999999999999\""},
    };
    for (const auto& [line, expected] : cases) {
        write(line + "\n");
        const auto day = load_trace_days(path(), {"a"});
        ASSERT_FALSE(day.ok()) << line;
        EXPECT_NE(day.error().message.find(expected), std::string::npos) << day.error().message;
    }
}

TEST_F(TraceFileTest, ALineWithoutEndIsBounded) {
    write(std::string(LineReader::kLineMax + (1u << 20), 'x'));
    LineReader reader = LineReader::open(path()).value();
    std::string line;
    const auto read = reader.next(line);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().code, ErrorCode::TooLarge);
}

TEST_F(TraceFileTest, EmptyFilesHaveNoDay) {
    write("");
    EXPECT_EQ(load_trace_days(path(), {"a"}).error().code, ErrorCode::NotFound);
    EXPECT_EQ(load_trace_days(path() + "x", {"a"}).error().code, ErrorCode::NotFound);
}

}  // namespace
}  // namespace kumoi::sim
