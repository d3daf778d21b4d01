#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/digest.h"
#include "compute/clients/glance_client.h"
#include "compute/clients/image_json.h"
#include "tests/support/recorded_cloud.h"
#include "tests/unit/compute/clients/clients_world.h"

namespace kumoi::clients {
namespace {

using test::RecordedCloud;
using test::ScriptServer;
using Reply = ScriptServer::Reply;
using Request = ScriptServer::Request;

std::string random_bytes(size_t size) {
    SeededRandom random(5);
    std::string data(size, '\0');
    random.fill(std::as_writable_bytes(std::span(data)));
    return data;
}

// A Glance with one image; ranges, breaks and lies as told.
struct MiniGlance {
    explicit MiniGlance(std::string image_data)
        : data(std::move(image_data)),
          hash(digest_hex(DigestKind::Sha512, data)),
          server([this](const Request& request) { return answer(request); }) {}

    Reply answer(const Request& request) {
        if (!request.target.ends_with("/file")) {
            return {.body = Json::object({{"id", "img"},
                                          {"status", status},
                                          {"size", data.size()},
                                          {"os_hash_algo", "sha512"},
                                          {"os_hash_value", hash}})
                                .dump()};
        }
        ++file_requests;
        Reply reply{.status = 200, .body = data};
        const std::string range = request.header("range");
        if (ranges && !range.empty()) {
            const size_t from = std::strtoull(range.c_str() + 6, nullptr, 10);
            const size_t dash = range.find('-');
            const size_t to =
                dash + 1 == range.size()
                    ? data.size() - 1
                    : std::min<size_t>(std::strtoull(range.c_str() + dash + 1, nullptr, 10),
                                       data.size() - 1);
            reply.status = 206;
            reply.headers.emplace_back("Content-Range",
                                       fmt::format("bytes {}-{}/{}", from, to, data.size()));
            reply.body = data.substr(from, to - from + 1);
        }
        if (breaks > 0) {
            --breaks;
            reply.cut_after = reply.body.size() / 2;
        }
        return reply;
    }

    std::string data;
    std::string hash;
    std::string status = "active";
    bool ranges = true;
    int breaks = 0;
    int file_requests = 0;
    ScriptServer server;
};

struct World : ClientsWorld {
    explicit World(const std::string& url, int streams = 3)
        : ClientsWorld("Glance", url),
          glance(service, {.streams = streams, .range_bytes = 100'000}) {}
    Result<std::string> download() {
        std::string got;
        TRY(glance.download(context, "img", [&](std::span<const std::byte> bytes) -> Result<void> {
            got.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            return {};
        }));
        return got;
    }
    GlanceClient glance;
    compute::RequestContext context = user_context("db501b6a55fc4471b729c99e758e481c");
};

TEST(ClientsGlance, FetchesRangesInParallelAndDeliversThemInOrder) {
    MiniGlance glance(random_bytes(1'234'567));
    World world(glance.server.url());
    const auto got = world.download();
    ASSERT_TRUE(got.ok()) << got.error().text();
    EXPECT_EQ(*got, glance.data);
    EXPECT_EQ(glance.file_requests, 13);
}

TEST(ClientsGlance, AServiceWithoutRangesIsReadToTheEnd) {
    MiniGlance glance(random_bytes(500'000));
    glance.ranges = false;
    World world(glance.server.url());
    EXPECT_EQ(world.download().value(), glance.data);
    EXPECT_EQ(glance.file_requests, 1);
}

TEST(ClientsGlance, BrokenConnectionsGoOnWhereTheyEnded) {
    for (const bool ranges : {true, false}) {
        for (const int streams : {1, 3}) {
            MiniGlance glance(random_bytes(700'001));
            glance.ranges = ranges;
            glance.breaks = 3;
            World world(glance.server.url(), streams);
            const auto got = world.download();
            ASSERT_TRUE(got.ok()) << got.error().text();
            EXPECT_EQ(*got, glance.data) << ranges << streams;
        }
    }
}

TEST(ClientsGlance, ALineThatOnlyBreaksIsGivenUp) {
    ScriptServer server([](const Request& request) {
        if (request.target.ends_with("/file")) {
            return Reply{.hang_up = true};
        }
        return Reply{.body = R"({"id":"img","status":"active","size":10})"};
    });
    World world(server.url());
    const auto got = world.download();
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().code, ErrorCode::Unavailable);
}

TEST(ClientsGlance, DamagedDataIsNoImage) {
    MiniGlance glance(random_bytes(300'000));
    glance.hash = std::string(128, 'a');
    World world(glance.server.url());
    const auto got = world.download();
    ASSERT_FALSE(got.ok());
    EXPECT_EQ(got.error().fault, "CouldNotFetchImage");
    EXPECT_EQ(got.error().code, ErrorCode::Corrupt);
}

TEST(ClientsGlance, AFullDiskEndsTheDownloadWithItsOwnError) {
    MiniGlance glance(random_bytes(900'000));
    World world(glance.server.url());
    size_t taken = 0;
    const auto outcome = world.glance.download(
        world.context, "img", [&](std::span<const std::byte> bytes) -> Result<void> {
            taken += bytes.size();
            return taken > 350'000 ? Result<void>(Error::exhausted("disk full")) : Result<void>();
        });
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().message, "disk full");
}

TEST(ClientsGlance, OnlyActiveImagesAreFetched) {
    MiniGlance glance("x");
    glance.status = "queued";
    World world(glance.server.url());
    EXPECT_EQ(world.download().error().fault, "ImageNotActive");
}

TEST(ClientsGlance, ASnapshotIsUploadedAsNovaDid) {
    auto recording = test::load_recording("snapshot_glance.json");
    RecordedCloud cloud(std::move(recording));
    World world(cloud.url());
    const std::string id = "489a85c2-a8c7-473d-b23d-e0f985e34bc6";
    // The recording's first answer to GET is the image before the patch.
    const Json patched = cloud.recorded("PATCH", "/v2/images/" + id).reply;
    Json before = patched;
    for (const char* name : {"owner_id", "image_location", "image_state"}) {
        before.erase(name);
    }
    before.set("disk_format", nullptr);
    before.set("container_format", nullptr);
    cloud.answer_once("GET", "/v2/images/" + id, {.body = before.dump()});
    const std::string data(65'536, 'd');
    const auto outcome = world.glance.upload(
        world.context, id, {.disk_format = "raw", .container_format = "bare", .min_disk_gb = 1},
        [&](std::span<std::byte> buffer, uint64_t offset) -> Result<size_t> {
            const size_t count = std::min<size_t>(buffer.size(), data.size() - offset);
            std::memcpy(buffer.data(), data.data() + offset, count);
            return count;
        });
    ASSERT_TRUE(outcome.ok()) << outcome.error().text();
    const auto patch = cloud.asked("PATCH", "/v2/images");
    ASSERT_EQ(patch.size(), 1u);
    const auto& recorded = cloud.recorded("PATCH", "/v2/images");
    EXPECT_EQ(patch[0].header("content-type"), recorded.content_type);
    Json ours = Json::parse(patch[0].body).value();
    Json theirs = recorded.body;
    const auto by_path = [](const Json& left, const Json& right) {
        return left.string_or("path") < right.string_or("path");
    };
    std::sort(ours.as_array().begin(), ours.as_array().end(), by_path);
    std::sort(theirs.as_array().begin(), theirs.as_array().end(), by_path);
    EXPECT_EQ(ours, theirs);
    const auto put = cloud.asked("PUT", "/v2/images");
    ASSERT_EQ(put.size(), 1u);
    EXPECT_EQ(put[0].body, data);
    EXPECT_EQ(put[0].header("content-type"), "application/octet-stream");
}

// Answers each PUT of data as scripted (curl itself tries a kept connection's request once more);
// the image's status after it is scripted too.
struct UploadGlance {
    UploadGlance(std::deque<Reply> put_answers, std::deque<std::string> image_statuses)
        : answers(std::move(put_answers)),
          statuses(std::move(image_statuses)),
          server([this](const Request& request) -> Reply {
              if (request.method == "PUT") {
                  Reply reply = answers.empty() ? Reply{.status = 599} : answers.front();
                  if (answers.empty()) {
                      return reply;
                  }
                  answers.pop_front();
                  return reply;
              }
              if (request.method == "GET") {
                  const std::string status = statuses.front();
                  statuses.pop_front();
                  return {.body = R"({"id":"img","status":")" + status + "\"}"};
              }
              return {.body = "{}"};
          }) {}
    std::deque<Reply> answers;
    std::deque<std::string> statuses;
    ScriptServer server;
};

Result<void> upload(World& world) {
    return world.glance.upload(world.context, "img", {.disk_format = "raw"},
                               [](std::span<std::byte> buffer, uint64_t offset) -> Result<size_t> {
                                   return offset == 0 ? std::min<size_t>(buffer.size(), 10) : 0;
                               });
}

TEST(ClientsGlance, AnUploadThatBrokeBeginsAgain) {
    UploadGlance glance({{.hang_up = true}, {.hang_up = true}, {.status = 503}, {.status = 204}},
                        {"queued", "queued", "queued"});
    World world(glance.server.url());
    const auto outcome = upload(world);
    EXPECT_TRUE(outcome.ok()) << outcome.error().text();
    EXPECT_TRUE(glance.answers.empty());
}

TEST(ClientsGlance, AnUploadWhoseAnswerWasLostIsDone) {
    UploadGlance glance({{.hang_up = true}, {.hang_up = true}}, {"queued", "active"});
    World world(glance.server.url());
    EXPECT_TRUE(upload(world).ok());
}

TEST(ClientsGlance, AnUploadOverQuotaIsNotRepeated) {
    UploadGlance glance({{.status = 413}}, {"queued"});
    World world(glance.server.url());
    EXPECT_EQ(upload(world).error().fault, "ImageQuotaExceeded");
    UploadGlance stuck({{.hang_up = true}, {.hang_up = true}}, {"queued", "saving"});
    World other(stuck.server.url());
    EXPECT_EQ(upload(other).error().fault, "CouldNotUploadImage");
}

TEST(ClientsGlance, ListsWithFiltersAndFollowsPages) {
    RecordedCloud cloud(test::load_recording("backup_glance.json"));
    World world(cloud.url());
    const Json recorded = cloud.recorded("GET", "/v2/images").reply;
    Json first = recorded;
    first.set("next", "/v2/images?marker=1");
    cloud.answer_once("GET",
                      "/v2/images?backup_type=daily&image_type=backup&limit=200"
                      "&sort_key=created_at&sort_dir=desc",
                      {.body = first.dump()});
    cloud.answer_once("GET", "/v2/images?marker=1", {.body = recorded.dump()});
    const auto images =
        world.glance.list(world.context, {{"image_type", "backup"}, {"backup_type", "daily"}});
    ASSERT_TRUE(images.ok()) << images.error().text();
    ASSERT_EQ(images->size(), 2u);
    EXPECT_EQ((*images)[0].name, "bk1");
    EXPECT_EQ((*images)[0].properties.at("image_type"), "backup");
    EXPECT_EQ((*images)[0].properties.count("self"), 0u);
}

TEST(ClientsGlance, RefusalsBecomeNovasExceptions) {
    for (const auto& [status, fault] :
         {std::pair{403, "ImageNotAuthorized"}, {404, "ImageNotFound"}, {400, "ImageBadRequest"}}) {
        ScriptServer server([status = status](const Request&) { return Reply{.status = status}; });
        World world(server.url());
        EXPECT_EQ(world.glance.show(world.context, "x").error().fault, fault);
    }
    std::string url;
    {
        ScriptServer server([](const Request&) { return Reply{}; });
        url = server.url();
    }
    World world(url);
    EXPECT_EQ(world.glance.show(world.context, "x").error().fault, "GlanceConnectionFailed");
    ScriptServer gone([](const Request&) { return Reply{.status = 404}; });
    World other(gone.url());
    EXPECT_TRUE(other.glance.remove(other.context, "x").ok());
}

TEST(ClientsImage, HostileJsonIsAnError) {
    for (const char* text : {"[]", "{}", R"({"id":"x"})", R"({"id":1,"status":"active"})",
                             R"({"id":"x","status":"active","size":-1})"}) {
        EXPECT_FALSE(parse_image(Json::parse(text).value()).ok()) << text;
    }
}

}  // namespace
}  // namespace kumoi::clients
