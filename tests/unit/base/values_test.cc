// Clock texts, uuids, random streams, digests and encodings.
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/metrics.h"
#include "base/random.h"
#include "base/small_digest.h"
#include "base/uuid.h"

namespace kumoi {
namespace {

TEST(Iso8601, WritesAndReadsBack) {
    const int64_t time = 1'795'463'647 * kNanosPerSecond + 123'456 * kNanosPerMicro;
    EXPECT_EQ(iso8601(time), "2026-11-23T19:54:07Z");
    EXPECT_EQ(iso8601_micros(time), "2026-11-23T19:54:07.123456Z");
    EXPECT_EQ(parse_iso8601("2026-11-23T19:54:07.123456Z"), time);
    EXPECT_EQ(parse_iso8601("2026-11-23 19:54:07"), time / kNanosPerSecond * kNanosPerSecond);
    EXPECT_TRUE(parse_iso8601("2026-11-23").has_value());
    EXPECT_EQ(iso8601(-1), "1969-12-31T23:59:59Z");
}

TEST(Iso8601, RefusesOtherText) {
    for (const char* text :
         {"5682-11-24T09:36:34Z", "1600-01-01", "", "2026", "2026-13-01", "2026-02-30",
          "2026-01-01T25:00:00Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx", "-026-01-01"}) {
        EXPECT_FALSE(parse_iso8601(text).has_value()) << text;
    }
}

TEST(Uuid, ParsesBothFormsAndNothingElse) {
    const auto uuid = Uuid::parse("6F1D0c0e-1b2a-4c3d-8e9f-001122334455");
    ASSERT_TRUE(uuid.has_value());
    EXPECT_EQ(uuid->text(), "6f1d0c0e-1b2a-4c3d-8e9f-001122334455");
    EXPECT_EQ(Uuid::parse(uuid->hex()), uuid);
    for (const char* text : {"", "6f1d0c0e", "6f1d0c0e-1b2a-4c3d-8e9f-00112233445g",
                             "6f1d0c0e+1b2a-4c3d-8e9f-001122334455"}) {
        EXPECT_FALSE(Uuid::parse(text).has_value()) << text;
    }
}

TEST(Uuid, GeneratedOnesAreVersion4) {
    SeededRandom random(1);
    const std::string text = Uuid::generate(random).text();
    EXPECT_EQ(text[14], '4');
    EXPECT_NE(std::string("89ab").find(text[19]), std::string::npos);
}

TEST(SeededRandom, RepeatsAndSeparatesStreams) {
    SeededRandom first(7, "arrivals"), again(7, "arrivals"), other(7, "faults");
    const uint64_t value = first.next();
    EXPECT_EQ(value, again.next());
    EXPECT_NE(value, other.next());
    for (int index = 0; index < 1000; ++index) {
        EXPECT_LT(first.below(10), 10U);
    }
}

TEST(SecretText, IsNeverTakenForAnOption) {
    SeededRandom random(7);
    for (int index = 0; index < 500; ++index) {  // one in 64 of plain base64url begins with '-'
        const std::string secret = secret_text(random, 32);
        EXPECT_EQ(secret.size(), 44U);
        EXPECT_TRUE(std::isalpha(static_cast<unsigned char>(secret[0])));
    }
}

TEST(Digest, MatchesPublishedVectors) {
    EXPECT_EQ(digest_hex(DigestKind::Md5, "abc"), "900150983cd24fb0d6963f7d28e17f72");
    EXPECT_EQ(digest_hex(DigestKind::Sha256, "abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(to_hex(hmac_sha256("Jefe", "what do ya want for nothing?")),  // RFC 4231 case 2
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(SmallDigest, MatchesPublishedVectorsAndOpenSsl) {
    EXPECT_EQ(to_hex(sha1_of("abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
    EXPECT_EQ(to_hex(sha256_of("abc")),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    std::string data;
    for (size_t size = 0; size < 300; ++size) {  // across all paddings of both
        EXPECT_EQ(to_hex(sha1_of(data)), digest_hex(DigestKind::Sha1, data)) << size;
        EXPECT_EQ(to_hex(sha256_of(data)), digest_hex(DigestKind::Sha256, data)) << size;
        data.push_back(static_cast<char>(size * 7));
    }
}

TEST(Base64, FollowsRfc4648) {
    const std::pair<const char*, const char*> vectors[] = {
        {"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
        {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
    for (const auto& [plain, encoded] : vectors) {
        EXPECT_EQ(base64_encode(plain), encoded);
        EXPECT_EQ(base64_decode(encoded), plain);
    }
    for (const char* text : {"Zg=", "Zg", "Z", "Zm9v=", "Zm=9", "Zm9*", "Zg==Zg=="}) {
        EXPECT_FALSE(base64_decode(text).has_value()) << text;
    }
    EXPECT_EQ(base64url_encode("\xfb\xff"), "-_8");
}

TEST(Password, MatchesOnlyItself) {
    const std::string hash = password_hash("secret", "0123456789abcdef");
    EXPECT_TRUE(password_matches("secret", hash));
    EXPECT_FALSE(password_matches("Secret", hash));
    EXPECT_FALSE(password_matches("secret", "$scrypt$broken"));
    EXPECT_FALSE(password_matches("secret", "plain"));
}

TEST(Metrics, RenderInPrometheusText) {
    Metrics metrics;
    metrics.counter("kumoi_a_total", "Counts a.", {{"kind", "x\"y"}}).increment(3);
    metrics.gauge("kumoi_b", "Is b.").set(1.5);
    Histogram& histogram = metrics.histogram("kumoi_c_seconds", "Takes c.", {}, {0.1, 1});
    histogram.observe(0.1);
    histogram.observe(0.5);
    histogram.observe(7);
    EXPECT_EQ(metrics.render(),
              "# HELP kumoi_a_total Counts a.\n# TYPE kumoi_a_total counter\n"
              "kumoi_a_total{kind=\"x\\\"y\"} 3\n"
              "# HELP kumoi_b Is b.\n# TYPE kumoi_b gauge\nkumoi_b 1.5\n"
              "# HELP kumoi_c_seconds Takes c.\n# TYPE kumoi_c_seconds histogram\n"
              "kumoi_c_seconds_bucket{le=\"0.1\"} 1\nkumoi_c_seconds_bucket{le=\"1\"} 2\n"
              "kumoi_c_seconds_bucket{le=\"+Inf\"} 3\nkumoi_c_seconds_sum "
              "7.6\nkumoi_c_seconds_count 3\n");
}

}  // namespace
}  // namespace kumoi
