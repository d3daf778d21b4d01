// Messages that Nova's own clients put on the wire, one JSON object a line: tests/data/nova.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "api/nova/release.h"
#include "base/file.h"
#include "base/json.h"

namespace kumoi::test {

inline std::vector<Json> golden_messages(nova::Release release) {
    const std::string path = release == nova::Release::Zed ? "tests/data/nova/zed.jsonl"
                                                           : "tests/data/nova/gazpacho.jsonl";
    const auto text = read_file(path);
    EXPECT_TRUE(text.ok()) << "run from the project's root: " << path;
    std::vector<Json> messages;
    size_t begin = 0;
    while (text.ok() && begin < text->size()) {
        const size_t end = std::min(text->find('\n', begin), text->size());
        auto message = Json::parse(std::string_view(*text).substr(begin, end - begin));
        EXPECT_TRUE(message.ok());
        messages.push_back(std::move(*message));
        begin = end + 1;
    }
    return messages;
}

inline Json golden_message(nova::Release release, const std::string& name) {
    for (Json& message : golden_messages(release)) {
        if (message.string_or("name") == name) {
            return std::move(message);
        }
    }
    ADD_FAILURE() << "no golden message " << name;
    return {};
}

}  // namespace kumoi::test
