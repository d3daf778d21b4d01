#include "api/nova/nova_object.h"

#include <gtest/gtest.h>

#include "tests/support/golden_messages.h"

namespace kumoi::nova {
namespace {

class Releases : public testing::TestWithParam<Release> {
protected:
    const ObjectTable& table() const { return ObjectTable::of(GetParam()); }
    std::vector<Json> golden() const { return test::golden_messages(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Nova, Releases, testing::Values(Release::Zed, Release::Gazpacho));

// Calls `visit` with every object primitive in `value`, outer ones first.
void each_object(const Json& value, const std::function<void(const Json&)>& visit) {
    if (is_object_primitive(value)) {
        visit(value);
    }
    if (value.is_object()) {
        for (const auto& [key, member] : value.as_object()) {
            each_object(member, visit);
        }
    } else if (value.is_array()) {
        for (const Json& item : value.as_array()) {
            each_object(item, visit);
        }
    }
}

TEST_P(Releases, EveryObjectOfTheGoldenMessagesIsReadAndWrittenUnchanged) {
    size_t objects = 0;
    for (const Json& message : golden()) {
        each_object(message, [&](const Json& primitive) {
            const auto object = NovaObject::parse(table(), primitive);
            ASSERT_TRUE(object.ok()) << message.string_or("name") << object.error().text();
            EXPECT_EQ(object->primitive().dump(), primitive.dump()) << message.string_or("name");
            ++objects;
        });
    }
    EXPECT_GT(objects, 400u);
}

TEST_P(Releases, ManifestsAreThoseOfNova) {
    size_t manifests = 0;
    for (const Json& message : golden()) {
        const Json* versions = message.find_path({"args", "object_versions"});
        const std::string name = message.find("args")->string_or("objname");
        if (versions == nullptr || name.empty()) {
            continue;
        }
        EXPECT_EQ(table().manifest(name), *versions) << message.string_or("name");
        ++manifests;
    }
    EXPECT_GT(manifests, 8u);
}

TEST_P(Releases, EveryFieldTypeOfTheTableIsKnown) {
    EXPECT_GT(table().objects().size(), 100u);
    const ObjectInfo* instance = table().find("Instance");
    ASSERT_NE(instance, nullptr);
    EXPECT_EQ(instance->version, GetParam() == Release::Zed ? "2.7" : "2.8");
    EXPECT_EQ(instance->fields.contains("compute_id"), GetParam() == Release::Gazpacho);
    EXPECT_TRUE(instance->fields.at("host").nullable);
    EXPECT_EQ(instance->fields.at("flavor").object_name, "Flavor");
}

Json service(std::string_view version = "1.22") {
    return Json::object({{"nova_object.name", "Service"},
                         {"nova_object.namespace", "nova"},
                         {"nova_object.version", version},
                         {"nova_object.data", Json::object({{"id", 12}, {"host", "cn1"}})}});
}

TEST(NovaObject, ChangesTravelAndUpdatesAreTakenOver) {
    auto object = *NovaObject::parse(ObjectTable::of(Release::Zed), service());
    object.set("report_count", 1);
    object.set("report_count", 2);
    EXPECT_EQ(object.changes(), std::vector<std::string>{"report_count"});
    EXPECT_EQ(object.primitive().find("nova_object.changes")->dump(), R"(["report_count"])");
    const Json updates = Json::object({{"report_count", 2},
                                       {"disabled", true},
                                       {"future_field", 1},
                                       {"obj_what_changed", Json::array()}});
    ASSERT_TRUE(object.apply_updates(updates).ok());
    EXPECT_TRUE(object.changes().empty());
    EXPECT_TRUE(object.boolean("disabled"));
    EXPECT_EQ(object.integer("future_field"), 1);
    EXPECT_FALSE(object.apply_updates(Json::object({{"disabled", "yes"}})).ok());
    EXPECT_FALSE(object.apply_updates(Json(1)).ok());
}

TEST(NovaObject, ANewerMinorVersionIsKeptWholeAndKnownAsSuch) {
    Json primitive = service("1.99");
    primitive.find("nova_object.data")->set("flux", "capacitor");
    const auto object = NovaObject::parse(ObjectTable::of(Release::Zed), primitive);
    ASSERT_TRUE(object.ok());
    EXPECT_TRUE(object->is_newer_than_table());
    EXPECT_EQ(object->primitive(), primitive);
    EXPECT_FALSE(
        NovaObject::parse(ObjectTable::of(Release::Zed), service())->is_newer_than_table());
}

TEST(NovaObject, RefusesWhatIsNoObjectOfNova) {
    const ObjectTable& table = ObjectTable::of(Release::Zed);
    const auto fault = [&](Json primitive) {
        const auto object = NovaObject::parse(table, std::move(primitive));
        return object.ok() ? "none" : object.error().fault;
    };
    EXPECT_EQ(fault(service("2.0")), "IncompatibleObjectVersion");
    EXPECT_EQ(fault(service("x")), "IncompatibleObjectVersion");
    EXPECT_EQ(fault(Json::object({{"nova_object.name", "Nothing"}})), "UnsupportedObjectError");
    EXPECT_EQ(fault(Json("text")), "");
    Json wrong = service();
    wrong.find("nova_object.data")->set("id", "twelve");
    EXPECT_EQ(fault(wrong), "");
    Json bare = service();
    bare.erase("nova_object.data");
    EXPECT_EQ(fault(bare), "");
}

TEST(ObjectTable, DamagedTablesAreRefused) {
    for (const char* text :
         {"  fields a:Integer\n", "Instance\n", "Instance x\n", "I 1.0\n  fields a\n",
          "I 1.0\n  fields a:List<\n", "I 1.0\n  what a:Integer\n"}) {
        EXPECT_FALSE(ObjectTable::parse(text).ok()) << text;
    }
    EXPECT_TRUE(ObjectTable::parse("I 1.0\n  fields a:List<Dict<Object<J>?>>?\n").ok());
}

}  // namespace
}  // namespace kumoi::nova
