#include "api/rest/image/image_data.h"
#include "image_fixture.h"

namespace kumoi::api {
namespace {

using Names = std::vector<std::string>;

class ImageApi : public ImageFixture {};

TEST_F(ImageApi, AsksForATokenExceptForVersions) {
    EXPECT_EQ(as("bad", "GET", "/v2/images").status, 401);
    EXPECT_EQ(as("", "GET", "/v2/images").status, 401);
    EXPECT_EQ(as("", "GET", "/v2/schemas/image").status, 401);
    EXPECT_EQ(as("", "GET", "/").status, 300);
    const Json versions = json(as("", "GET", "/versions"));
    EXPECT_EQ(versions.find("versions")->as_array()[0].string_or("id"), "v2.9");
    EXPECT_EQ(
        versions.find("versions")->as_array()[0].find("links")->as_array()[0].string_or("href"),
        "http://images.test:9292/v2/");
}

TEST_F(ImageApi, RefusesBadCreations) {
    const std::pair<const char*, int> cases[] = {
        {"", 400},
        {"[]", 400},
        {"{", 400},
        {R"({"name":1})", 400},
        {R"({"disk_format":"floppy"})", 400},
        {R"({"container_format":1})", 400},
        {R"({"visibility":"secret"})", 400},
        {R"({"visibility":"public"})", 403},
        {R"({"owner":"p2"})", 403},
        {R"({"min_ram":-1})", 400},
        {R"({"min_disk":"1"})", 400},
        {R"({"protected":"yes"})", 400},
        {R"({"tags":"a"})", 400},
        {R"({"tags":[1]})", 400},
        {R"({"id":"not-a-uuid"})", 400},
        {R"({"hw_disk_bus":1})", 400},
        {R"({"status":"active"})", 403},
        {R"({"size":1})", 403},
        {R"({"deleted":true})", 403},
        {R"({"locations":[]})", 403},
    };
    for (const auto& [body, status] : cases) {
        EXPECT_EQ(as("p1", "POST", "/v2/images", body).status, status) << body;
    }
    EXPECT_EQ(as("p1:reader", "POST", "/v2/images", "{}").status, 403);
    EXPECT_TRUE(store_->list().empty());
}

TEST_F(ImageApi, CreatesWithEveryAttribute) {
    const Reply reply =
        as("p1", "POST", "/v2/images",
           R"({"id":"11111111-2222-4333-8444-555555555555","name":"k","disk_format":"aki",
            "container_format":"aki","visibility":"private","protected":true,"min_disk":1,
            "min_ram":64,"tags":["b","a","b"],"os_hidden":true,"kernel_id":"x",
            "os_command_line":"console=ttyS0","owner_specified.openstack.md5":""})");
    ASSERT_EQ(reply.status, 201) << reply.body;
    EXPECT_EQ(reply.headers.first("Location"),
              "http://images.test:9292/v2/images/11111111-2222-4333-8444-555555555555");
    const Json image = json(reply);
    EXPECT_EQ(image.string_or("status"), "queued");
    EXPECT_EQ(image.string_or("owner"), "p1");
    EXPECT_EQ(image.find("tags")->dump(), R"(["a","b"])");
    EXPECT_EQ(image.string_or("os_command_line"), "console=ttyS0");
    EXPECT_TRUE(image.contains("owner_specified.openstack.md5"));
    EXPECT_TRUE(image.find("size")->is_null());
    EXPECT_EQ(json(as("p1", "GET", image.string_or("self"))), image);
    EXPECT_EQ(
        as("p1", "POST", "/v2/images", R"({"id":"11111111-2222-4333-8444-555555555555"})").status,
        409);
}

TEST_F(ImageApi, HidesOtherProjectsImages) {
    const std::string id = create(R"(,"visibility":"private")");
    FakeBody body("x");
    EXPECT_EQ(as("p2", "GET", "/v2/images/" + id).status, 404);
    EXPECT_EQ(as("p2", "DELETE", "/v2/images/" + id).status, 404);
    EXPECT_EQ(patch(id, "[]", "p2").status, 404);
    EXPECT_EQ(upload(id, body, "p2").status, 404);
    EXPECT_EQ(as("p2", "GET", "/v2/images/" + id + "/file").status, 404);
    EXPECT_EQ(as("p2", "PUT", "/v2/images/" + id + "/tags/x").status, 404);
    EXPECT_EQ(as("p2", "GET", "/v2/images/" + id + "/members").status, 404);
    EXPECT_EQ(names("/v2/images", "p2"), Names{});
    EXPECT_EQ(as("p2:admin", "GET", "/v2/images/" + id).status, 200);
    EXPECT_FALSE(body.was_read);
}

TEST_F(ImageApi, LetsOthersSeeButNotChangePublicImages) {
    const std::string id = create(R"(,"visibility":"public")", "p1:admin");
    EXPECT_EQ(as("p2", "GET", "/v2/images/" + id).status, 200);
    EXPECT_EQ(as("p2", "DELETE", "/v2/images/" + id).status, 403);
    EXPECT_EQ(patch(id, "[]", "p2").status, 403);
    EXPECT_EQ(as("p1:reader", "DELETE", "/v2/images/" + id).status, 403);
    EXPECT_EQ(names("/v2/images", "p2"), Names{"cirros"});
}

TEST_F(ImageApi, PatchesWholeAttributes) {
    const std::string id = create(R"(,"old":"1")");
    const Reply reply = patch(id, R"([{"op":"replace","path":"/name","value":"new"},
        {"op":"add","path":"/hw_x~1y","value":"v"},{"op":"remove","path":"/old"},
        {"op":"replace","path":"/tags","value":["t"]},
        {"op":"replace","path":"/min_ram","value":5}])");
    ASSERT_EQ(reply.status, 200) << reply.body;
    const Json image = json(reply);
    EXPECT_EQ(image.string_or("name"), "new");
    EXPECT_EQ(image.string_or("hw_x/y"), "v");
    EXPECT_FALSE(image.contains("old"));
    EXPECT_EQ(image.integer_or("min_ram"), 5);
    HeaderMap old_type;
    old_type.add("Content-Type", "application/openstack-images-v2.0-json-patch");
    EXPECT_EQ(ask("PATCH", "/v2/images/" + id, R"([{"replace":"/name","value":"older"}])", old_type)
                  .status,
              200);
}

TEST_F(ImageApi, RefusesBadPatches) {
    const std::string id = create();
    const std::pair<const char*, int> cases[] = {
        {"{}", 400},
        {"[1]", 400},
        {R"([{"op":"move","path":"/name"}])", 400},
        {R"([{"op":"add","path":"name","value":"x"}])", 400},
        {R"([{"op":"add","path":"/a/b","value":"x"}])", 400},
        {R"([{"op":"add","path":"/a~2","value":"x"}])", 400},
        {R"([{"op":"add","path":"/name"}])", 400},
        {R"([{"op":"replace","path":"/missing","value":"x"}])", 409},
        {R"([{"op":"remove","path":"/missing"}])", 409},
        {R"([{"op":"remove","path":"/name"}])", 403},
        {R"([{"op":"replace","path":"/id","value":"x"}])", 403},
        {R"([{"op":"replace","path":"/status","value":"active"}])", 403},
        {R"([{"op":"replace","path":"/visibility","value":"public"}])", 403},
        {R"([{"op":"replace","path":"/name","value":"x"},{"op":"remove","path":"/nope"}])", 409},
    };
    for (const auto& [body, status] : cases) {
        EXPECT_EQ(patch(id, body).status, status) << body;
    }
    EXPECT_EQ(store_->get(id)->name, "cirros");
    EXPECT_EQ(ask("PATCH", "/v2/images/" + id, "[]").status, 415);
}

TEST_F(ImageApi, FreezesFormatsOnceThereIsData) {
    const std::string id = create_active();
    EXPECT_EQ(patch(id, R"([{"op":"replace","path":"/disk_format","value":"iso"}])").status, 403);
}

TEST_F(ImageApi, StoresAndReturnsData) {
    const std::string id = create_active("hello");
    const Json image = json(as("p1", "GET", "/v2/images/" + id));
    EXPECT_EQ(image.string_or("status"), "active");
    EXPECT_EQ(image.integer_or("size"), 5);
    EXPECT_EQ(image.string_or("checksum"), "5d41402abc4b2a76b9719d911017c592");
    const Reply data = as("p1", "GET", "/v2/images/" + id + "/file");
    ASSERT_EQ(data.status, 200);
    ASSERT_TRUE(data.file);
    EXPECT_EQ(data.file->length, 5u);
    EXPECT_EQ(data.headers.first("Content-MD5"), "5d41402abc4b2a76b9719d911017c592");
    HeaderMap range;
    range.add("Range", "bytes=1-2");
    const Reply part = ask("GET", "/v2/images/" + id + "/file", {}, range);
    EXPECT_EQ(part.status, 206);
    EXPECT_EQ(part.headers.first("Content-Range"), "bytes 1-2/5");
    EXPECT_EQ(part.file->offset, 1u);
    EXPECT_EQ(part.file->length, 2u);
    range.set("Range", "bytes=9-");
    EXPECT_EQ(ask("GET", "/v2/images/" + id + "/file", {}, range).status, 416);
    EXPECT_EQ(as("p1", "GET", "/v2/images/" + create() + "/file").status, 204);
}

TEST_F(ImageApi, RefusesUploadsBeforeReadingThem) {
    const std::string id = create_active();
    FakeBody body("x");
    EXPECT_EQ(upload(id, body).status, 409);
    HeaderMap json_type;
    json_type.add("Content-Type", "application/json");
    EXPECT_EQ(upload(create(), body, "p1", json_type).status, 415);
    FakeBody huge(std::string((1u << 20) + 1, 'x'));
    EXPECT_EQ(upload(create(), huge).status, 413);
    const std::string unformatted =
        json(as("p1", "POST", "/v2/images", R"({"name":"x"})")).string_or("id");
    EXPECT_EQ(upload(unformatted, body).status, 400);
    EXPECT_FALSE(body.was_read);
    EXPECT_FALSE(huge.was_read);
}

TEST_F(ImageApi, CutUploadsLeaveTheImageQueued) {
    const std::string id = create();
    FakeBody cut("abc", Error::cancelled("client gone"));
    EXPECT_GE(upload(id, cut).status, 400);
    EXPECT_EQ(store_->get(id)->status, "queued");
    FakeBody wrong("abc");
    HeaderMap size;
    size.add("X-Openstack-Image-Size", "4");
    EXPECT_EQ(upload(id, wrong, "p1", size).status, 400);
    EXPECT_EQ(store_->get(id)->status, "queued");
    EXPECT_TRUE(list_directory(directory_->path() + "/incoming")->empty());
}

TEST_F(ImageApi, DeletesUnlessProtected) {
    const std::string id = create(R"(,"protected":true)");
    EXPECT_EQ(as("p1", "DELETE", "/v2/images/" + id).status, 403);
    EXPECT_EQ(patch(id, R"([{"op":"replace","path":"/protected","value":false}])").status, 200);
    EXPECT_EQ(as("p1", "DELETE", "/v2/images/" + id).status, 204);
    EXPECT_EQ(as("p1", "GET", "/v2/images/" + id).status, 404);
}

TEST_F(ImageApi, Tags) {
    const std::string id = create();
    EXPECT_EQ(as("p1", "PUT", "/v2/images/" + id + "/tags/a%20b").status, 204);
    EXPECT_EQ(names("/v2/images?tag=a%20b"), Names{"cirros"});
    EXPECT_EQ(names("/v2/images?tag=a%20b&tag=c"), Names{});
    EXPECT_EQ(as("p1", "DELETE", "/v2/images/" + id + "/tags/a%20b").status, 204);
    EXPECT_EQ(as("p1", "DELETE", "/v2/images/" + id + "/tags/a%20b").status, 404);
}

TEST_F(ImageApi, MembersAcceptForThemselves) {
    const std::string id = create();
    const std::string members = "/v2/images/" + id + "/members";
    EXPECT_EQ(as("p1", "POST", members, R"({"member":"p2"})").status, 200);
    EXPECT_EQ(as("p1", "POST", members, R"({"member":"p2"})").status, 409);
    EXPECT_EQ(as("p1", "POST", members, R"({"member":""})").status, 400);
    EXPECT_EQ(as("p2", "GET", "/v2/images/" + id).status, 200);
    EXPECT_EQ(names("/v2/images", "p2"), Names{}) << "not accepted yet";
    EXPECT_EQ(names("/v2/images?member_status=pending", "p2"), Names{"cirros"});
    EXPECT_EQ(as("p1", "PUT", members + "/p2", R"({"status":"accepted"})").status, 403);
    EXPECT_EQ(as("p3", "PUT", members + "/p2", R"({"status":"accepted"})").status, 404);
    EXPECT_EQ(as("p2", "PUT", members + "/p2", R"({"status":"maybe"})").status, 400);
    EXPECT_EQ(as("p2", "PUT", members + "/p2", R"({"status":"accepted"})").status, 200);
    EXPECT_EQ(names("/v2/images", "p2"), Names{"cirros"});
    EXPECT_EQ(as("p2", "DELETE", members + "/p2").status, 403);
    EXPECT_EQ(as("p1", "DELETE", members + "/p2").status, 204);
    EXPECT_EQ(as("p2", "GET", "/v2/images/" + id).status, 404);
    const std::string secret = create(R"(,"visibility":"private")");
    EXPECT_EQ(as("p1", "POST", "/v2/images/" + secret + "/members", R"({"member":"p2"})").status,
              403);
}

TEST_F(ImageApi, DeactivatedImagesKeepTheirDataToThemselves) {
    const std::string id = create_active();
    EXPECT_EQ(as("p1", "POST", "/v2/images/" + id + "/actions/deactivate").status, 403);
    EXPECT_EQ(as("p1:admin", "POST", "/v2/images/" + id + "/actions/deactivate").status, 204);
    EXPECT_EQ(as("p1", "GET", "/v2/images/" + id + "/file").status, 403);
    EXPECT_EQ(as("p1:admin", "GET", "/v2/images/" + id + "/file").status, 200);
    EXPECT_EQ(as("p1:admin", "POST", "/v2/images/" + id + "/actions/reactivate").status, 204);
    EXPECT_EQ(as("p1", "GET", "/v2/images/" + id + "/file").status, 200);
}

// ---- lists ----

TEST_F(ImageApi, PagesThroughAllImagesOnce) {
    for (int index = 0; index < 7; ++index) {
        create(",\"name\":\"i" + std::to_string(index) + "\"");
    }
    Names seen;
    std::string target = "/v2/images?limit=3&sort=name:asc";
    int pages = 0;
    while (!target.empty() && pages++ < 10) {
        for (const std::string& name : names(target)) {
            seen.push_back(name);
        }
        target = json(as("p1", "GET", target)).string_or("next");
    }
    EXPECT_EQ(seen.size(), 7u);
    EXPECT_EQ(pages, 3);
}

TEST_F(ImageApi, FiltersAndSorts) {
    as("p1", "POST", "/v2/images",
       R"({"name":"b","disk_format":"iso","min_ram":64,"os_distro":"debian"})");
    clock_.advance(kNanosPerSecond);
    as("p1", "POST", "/v2/images", R"({"name":"a","disk_format":"raw","protected":true})");
    clock_.advance(kNanosPerSecond);
    as("p1", "POST", "/v2/images", R"({"name":"c,d","disk_format":"qcow2"})");
    as("p1", "POST", "/v2/images", R"({"name":"hidden","os_hidden":true})");
    const std::pair<const char*, Names> cases[] = {
        {"", {"c,d", "a", "b"}},
        {"sort=name:asc", {"a", "b", "c,d"}},
        {"sort_key=name&sort_dir=desc", {"c,d", "b", "a"}},
        {"name=b", {"b"}},
        {"name=in:a,%22c,d%22", {"c,d", "a"}},
        {"status=active", {}},
        {"disk_format=in:iso,raw&sort=name:asc", {"a", "b"}},
        {"min_ram=64", {"b"}},
        {"protected=true", {"a"}},
        {"os_distro=debian", {"b"}},
        {"os_hidden=true", {"hidden"}},
        {"visibility=private", {}},
        {"owner=p2", {}},
        {"created_at=gt:2000-01-01T00:00:00Z&name=b", {"b"}},
        {"created_at=lt:2000-01-01T00:00:00Z", {}},
        {"size_min=1", {}},
        {"limit=0", {}},
        {"limit=1", {"c,d"}},
    };
    for (const auto& [query, expected] : cases) {
        EXPECT_EQ(names("/v2/images?" + std::string(query)), expected) << query;
    }
    for (const char* query :
         {"limit=x", "limit=-1", "marker=nope", "sort=color", "sort=name:up",
          "sort_dir=up&sort_key=name", "sort=name&sort_key=name", "visibility=odd",
          "member_status=odd", "protected=maybe", "os_hidden=2", "size_min=a", "created_at=soon",
          "created_at=xx:2000-01-01T00:00:00Z", "name=in:%22a"}) {
        EXPECT_EQ(as("p1", "GET", "/v2/images?" + std::string(query)).status, 400) << query;
    }
}

TEST_F(ImageApi, ListsCommunityImagesOnlyWhenAsked) {
    create(R"(,"visibility":"community")");
    EXPECT_EQ(names("/v2/images", "p2"), Names{});
    EXPECT_EQ(names("/v2/images?visibility=community", "p2"), Names{"cirros"});
    EXPECT_EQ(names("/v2/images", "p1"), Names{"cirros"});
}

TEST_F(ImageApi, PublishesSchemas) {
    for (const char* name : {"image", "images", "member", "members"}) {
        const Reply reply = as("p1", "GET", "/v2/schemas/" + std::string(name));
        EXPECT_EQ(reply.status, 200);
        EXPECT_EQ(json(reply).string_or("name"), name);
    }
    const Json schema = json(as("p1", "GET", "/v2/schemas/image"));
    const Json image = json(as("p1", "GET", "/v2/images/" + create()));
    for (const auto& [name, value] : image.as_object()) {
        EXPECT_NE(schema.find_path({"properties", name}), nullptr) << name;
    }
}

TEST(ParseRange, TakesOneRangeInside) {
    EXPECT_EQ(parse_range("bytes=0-0", 10)->value().length, 1u);
    EXPECT_EQ(parse_range("bytes=5-", 10)->value().offset, 5u);
    EXPECT_EQ(parse_range("bytes=5-99", 10)->value().length, 5u);
    EXPECT_EQ(parse_range("bytes=-3", 10)->value().offset, 7u);
    EXPECT_EQ(parse_range("bytes=-99", 10)->value().length, 10u);
    for (const char* whole : {"", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-4",
                              "bytes=99999999999999999999-"}) {
        EXPECT_FALSE(parse_range(whole, 10)->has_value()) << whole;
    }
    for (const char* outside : {"bytes=10-", "bytes=5-4", "bytes=-0"}) {
        EXPECT_FALSE(parse_range(outside, 10).ok()) << outside;
    }
    EXPECT_FALSE(parse_range("bytes=0-", 0).ok());
}

}  // namespace
}  // namespace kumoi::api
