// StaticFiles: the files below one folder, as HTTP answers: noVNC's pages and scripts. Regular
// files only, nothing outside the folder, also not through links; no listing. Stateless; any
// thread.
#pragma once

#include <string>
#include <string_view>

namespace kumoi::api {

class StaticFiles {
public:
    static constexpr size_t kFileSizeMax = 4u << 20;

    explicit StaticFiles(std::string folder) : folder_(std::move(folder)) {}
    // The whole answer, head and body, to a request (its head, up to the empty line). Always ends
    // the connection.
    std::string answer(std::string_view request) const;

private:
    std::string folder_;
};

}  // namespace kumoi::api
