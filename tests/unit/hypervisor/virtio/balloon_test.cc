#include "hypervisor/virtio/balloon.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kStatistics = 1u << 1;
constexpr uint64_t kDeflateOnOom = 1u << 2;
constexpr uint64_t kHints = 1u << 3;
constexpr uint64_t kPoison = 1u << 4;
constexpr uint64_t kReporting = 1u << 5;
constexpr uint64_t kEverything = ~(virtio::kFeatureEventIndex | kHints);
constexpr uint64_t kVictim = 0xc0'0000;  // memory nobody else uses here

class BalloonTest : public testing::Test {
protected:
    void start(uint64_t features = kEverything) { ASSERT_TRUE(device_.start(features).ok()); }
    uint32_t config(uint32_t offset) const {
        uint32_t value = 0;
        balloon_.read_config(offset, std::span(reinterpret_cast<uint8_t*>(&value), 4));
        return value;
    }
    void write_config(uint32_t offset, uint32_t value) {
        balloon_.write_config(offset, std::span(reinterpret_cast<const uint8_t*>(&value), 4));
    }
    uint64_t pages(QueueFake& queue, const std::vector<uint32_t>& numbers) {
        return queue.allocate(std::as_bytes(std::span(numbers)));
    }
    void inflate(const std::vector<uint32_t>& numbers) {
        const auto size = static_cast<uint32_t>(4 * numbers.size());
        inflate_.add({{pages(inflate_, numbers), size, false}});
        device_.kick(0);
    }
    void dirty(uint64_t gpa, uint64_t size) {
        platform_.memory().fill(gpa, size, std::byte{0x5a}).value();
    }
    bool is_zero(uint64_t gpa) { return platform_.memory().load<uint64_t>(gpa).value() == 0; }
    uint64_t add_statistics(const std::vector<std::pair<uint16_t, uint64_t>>& values) {
        std::vector<std::byte> bytes;
        for (const auto& [tag, value] : values) {
            const auto put = [&bytes](const auto& field) {
                const auto raw = std::as_bytes(std::span(&field, 1));
                bytes.insert(bytes.end(), raw.begin(), raw.end());
            };
            put(tag);
            put(value);
        }
        const uint64_t gpa = statistics_.allocate(bytes);
        statistics_.add({{gpa, static_cast<uint32_t>(bytes.size()), false}});
        return gpa;
    }

    PlatformFake platform_;
    ManualClock clock_;
    VirtioBalloon balloon_{{}, platform_.memory(), clock_};
    DeviceFake device_{balloon_, platform_.memory()};
    QueueFake& inflate_ = device_.add_queue(0, 16);
    QueueFake& deflate_ = device_.add_queue(1, 16);
    QueueFake& statistics_ = device_.add_queue(2, 2);
    QueueFake& third_ = device_.add_queue(3, 16);
    QueueFake& fourth_ = device_.add_queue(4, 16);
};

TEST_F(BalloonTest, OffersWhatIsConfigured) {
    EXPECT_EQ(balloon_.features(), kStatistics | kDeflateOnOom | kHints | kPoison | kReporting);
    VirtioBalloon plain(
        {.deflate_on_oom = false, .free_page_reporting = false, .free_page_hints = false},
        platform_.memory(), clock_);
    EXPECT_EQ(plain.features(), kStatistics | kPoison);
    EXPECT_EQ(plain.queue_sizes().size(), 3u);
}

TEST_F(BalloonTest, InflatedPagesGoBackToTheHost) {
    start();
    dirty(kVictim, 0x8000);
    inflate({0xe00});  // the rings' own pages are there now
    const uint64_t before = platform_.memory().resident_bytes();
    inflate({0xc01, 0xc00, 0xc02, 0xc05});  // neighbours in any order, and one apart
    EXPECT_EQ(inflate_.used_index(), 2u);
    EXPECT_EQ(before - platform_.memory().resident_bytes(), 4u * 4096);
    for (const uint64_t page : {0u, 1u, 2u, 5u}) {
        EXPECT_TRUE(is_zero(kVictim + page * 4096)) << page;
    }
    for (const uint64_t page : {3u, 4u, 6u}) {
        EXPECT_FALSE(is_zero(kVictim + page * 4096)) << page;
    }
    EXPECT_EQ(device_.statistic("inflated_pages"), 5u);
    EXPECT_EQ(device_.statistic("discarded_bytes"), 5u * 4096);
}

TEST_F(BalloonTest, PagesOutsideOfRamAreIgnored) {
    start();
    inflate({0xffff'ffff, 0xffff'fffe, 0x10'0000, 0});
    EXPECT_EQ(inflate_.used_index(), 1u);
    EXPECT_EQ(device_.statistic("discarded_bytes"), 4096u);  // page 0 only
    EXPECT_TRUE(device_.broken_reasons.empty());
}

TEST_F(BalloonTest, MalformedChainsHaveNoEffect) {
    start();
    dirty(kVictim, 0x1000);
    const uint64_t gpa = pages(inflate_, {0xc00});
    inflate_.add({{gpa, 4, true}});   // device-writable
    inflate_.add({{gpa, 3, false}});  // half a number
    inflate_.add({{0x80'0000, 4 * (VirtioBalloon::kPagesPerChainMax + 1), false}});
    device_.kick(0);
    EXPECT_EQ(inflate_.used_index(), 3u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 3u);
    EXPECT_FALSE(is_zero(kVictim));
}

TEST_F(BalloonTest, ATurnIsBoundedAndGoesOnByItself) {
    start();
    for (int i = 0; i < 8; ++i) {  // 8 chains of as many pages as one may have
        inflate_.add({{0x80'0000, 4 * VirtioBalloon::kPagesPerChainMax, false}});
    }
    device_.run_queue(0);
    device_.serve_queue(0);
    EXPECT_LT(inflate_.used_index(), 8u);
    device_.run_pending();
    EXPECT_EQ(inflate_.used_index(), 8u);
}

TEST_F(BalloonTest, NothingIsGivenBackWhileThatIsForbidden) {
    start();
    dirty(kVictim, 0x1000);
    platform_.memory().forbid_discard();
    inflate({0xc00});
    EXPECT_FALSE(is_zero(kVictim));
    EXPECT_EQ(inflate_.used_index(), 1u);
    platform_.memory().allow_discard();
    inflate({0xc00});
    EXPECT_TRUE(is_zero(kVictim));
}

TEST_F(BalloonTest, TheTargetIsToldByAConfigurationChange) {
    start();
    EXPECT_EQ(config(0), 0u);
    ASSERT_TRUE(balloon_.set_target(4).ok());
    EXPECT_EQ(config(0), 1024u);
    EXPECT_EQ(device_.config_changes, 1);
    const auto refused = balloon_.set_target(17);  // the guest has 16
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("16 MiB"), std::string::npos);
    EXPECT_EQ(balloon_.state().target_mib, 4u);
}

TEST_F(BalloonTest, TheDriverTellsWhatItGave) {
    start();
    write_config(4, 512);
    EXPECT_EQ(balloon_.state().actual_mib, 2u);
    EXPECT_EQ(config(4), 512u);
    write_config(0, 77);  // read only for the driver
    EXPECT_EQ(config(0), 0u);
    device_.stop();
    EXPECT_EQ(balloon_.state().actual_mib, 0u);
}

TEST_F(BalloonTest, ReportedPagesGoBackUnderEitherQueueNumber) {
    start();
    dirty(kVictim, 0x10000);
    third_.add({{kVictim, 0x4000, true}, {kVictim + 0x8000, 0x1000, true}});
    device_.kick(3);
    fourth_.add({{kVictim + 0xc000, 0x1000, true}});
    device_.kick(4);
    EXPECT_EQ(third_.used_index(), 1u);
    EXPECT_EQ(fourth_.used_index(), 1u);
    EXPECT_TRUE(is_zero(kVictim) && is_zero(kVictim + 0x3000) && is_zero(kVictim + 0x8000));
    EXPECT_TRUE(is_zero(kVictim + 0xc000));
    EXPECT_FALSE(is_zero(kVictim + 0x4000));
    EXPECT_EQ(device_.statistic("reported_pages"), 6u);
}

TEST_F(BalloonTest, PoisonedPagesAreKept) {
    start();
    dirty(kVictim, 0x1000);
    write_config(12, 0x5a5a'5a5a);
    third_.add({{kVictim, 0x1000, true}});
    device_.kick(3);
    EXPECT_EQ(third_.used_index(), 1u);
    EXPECT_FALSE(is_zero(kVictim));
    write_config(12, 0);
    third_.add({{kVictim, 0x1000, true}});
    device_.kick(3);
    EXPECT_TRUE(is_zero(kVictim));
}

TEST_F(BalloonTest, OnlyWholePagesOfAReportGoBack) {
    start();
    dirty(kVictim, 0x3000);
    third_.add({{kVictim + 8, 0x2000, true}});
    device_.kick(3);
    EXPECT_FALSE(is_zero(kVictim + 8));
    EXPECT_TRUE(is_zero(kVictim + 0x1000));
    EXPECT_FALSE(is_zero(kVictim + 0x2000));
}

class BalloonHintsTest : public BalloonTest {
protected:
    static constexpr uint64_t kVictimPage = kVictim / 4096;
    static constexpr uint32_t kDone = 1;
    uint32_t command() const { return config(8); }
    void number(QueueFake& queue, uint32_t value) {
        queue.add({{pages(queue, {value}), 4, false}});
    }
    void hint(QueueFake& queue, uint64_t gpa, uint32_t size) { queue.add({{gpa, size, true}}); }
    bool marked(uint64_t page) const { return marks_.test(kVictimPage + page); }
    void EndsComplete(QueueFake& queue, uint16_t index) {
        ASSERT_TRUE(balloon_.begin(marks_));
        number(queue, command());
        device_.kick(index);
        hint(queue, kVictim, 0x4000);
        device_.kick(index);
        number(queue, 0);
        device_.kick(index);
        EXPECT_TRUE(balloon_.progress().complete);
        EXPECT_EQ(balloon_.progress().pages, 4u);
        EXPECT_TRUE(marked(0) && marked(3));
        EXPECT_FALSE(marked(4));
        balloon_.end();
        EXPECT_EQ(command(), kDone);
    }
    FreePages marks_{platform_.memory().file_pages()};
};

TEST_F(BalloonHintsTest, FreePagesAreMarkedAndGivenBackAtTheEnd) {
    start(~virtio::kFeatureEventIndex);
    EXPECT_EQ(command(), 0u);
    EndsComplete(third_, 3);
    device_.loop().run_ready();
    EXPECT_EQ(device_.config_changes, 2);
    EXPECT_EQ(device_.statistic("hinted_pages"), 4u);
    EXPECT_EQ(device_.statistic("discarded_bytes"), 0u);
    EXPECT_EQ(third_.used_index(), 3u);
    fourth_.add({{kVictim, 0x1000, true}});  // reporting has the next number
    device_.kick(4);
    EXPECT_EQ(device_.statistic("reported_pages"), 1u);
}

TEST_F(BalloonHintsTest, WithoutStatisticsTheQueueMayMoveUp) {
    start(~(virtio::kFeatureEventIndex | kStatistics));  // Linux leaves out what was not agreed
    EndsComplete(statistics_, 2);
    third_.add({{kVictim, 0x1000, true}});
    device_.kick(3);
    EXPECT_EQ(device_.statistic("reported_pages"), 1u);
}

TEST_F(BalloonHintsTest, OldNumbersCountForNothing) {
    start(~virtio::kFeatureEventIndex);
    ASSERT_TRUE(balloon_.begin(marks_));
    const uint32_t old = command();
    number(third_, old);
    device_.kick(3);
    balloon_.end();
    hint(third_, kVictim, 0x1000);  // nobody asks any more
    device_.kick(3);
    EXPECT_FALSE(marked(0));
    ASSERT_TRUE(balloon_.begin(marks_));
    EXPECT_NE(command(), old);
    hint(third_, kVictim, 0x1000);  // of the answer before
    number(third_, old);
    hint(third_, kVictim, 0x1000);
    number(third_, 0);
    device_.kick(3);
    EXPECT_FALSE(marked(0));
    EXPECT_FALSE(balloon_.progress().complete);
    number(third_, command());
    hint(third_, kVictim, 0x1000);
    device_.kick(3);
    EXPECT_TRUE(marked(0));
    balloon_.end();
    hint(third_, kVictim + 0x1000, 0x1000);
    device_.kick(3);
    EXPECT_FALSE(marked(1));
}

TEST_F(BalloonHintsTest, OnlyWholePagesAreFree) {
    start(~virtio::kFeatureEventIndex);
    ASSERT_TRUE(balloon_.begin(marks_));
    number(third_, command());
    hint(third_, kVictim + 8, 0x2000);
    hint(third_, kVictim + 0x5010, 16);
    device_.kick(3);
    EXPECT_FALSE(marked(0) || marked(2) || marked(5));
    EXPECT_TRUE(marked(1));
    EXPECT_EQ(balloon_.progress().pages, 1u);
    balloon_.end();
}

TEST_F(BalloonHintsTest, NobodyIsAskedWhoCannotAnswerOrPoisonsPages) {
    EXPECT_FALSE(balloon_.available());
    EXPECT_FALSE(balloon_.begin(marks_));
    start(~virtio::kFeatureEventIndex);
    EXPECT_TRUE(balloon_.available());
    write_config(12, 0xaaaa'aaaa);
    EXPECT_FALSE(balloon_.available());
    EXPECT_FALSE(balloon_.begin(marks_));
    balloon_.end();
    EXPECT_EQ(command(), 0u);
}

TEST_F(BalloonHintsTest, MalformedOnesAreCounted) {
    start(~virtio::kFeatureEventIndex);
    ASSERT_TRUE(balloon_.begin(marks_));
    const uint64_t gpa = pages(third_, {command(), command()});
    third_.add({{gpa, 8, false}});
    third_.add({{gpa, 4, false}, {kVictim, 0x1000, true}});
    device_.kick(3);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    EXPECT_FALSE(marked(0));
    balloon_.end();
}

TEST_F(BalloonHintsTest, ADriverThatIsReplacedMeanwhileIsAskedToo) {
    start(~virtio::kFeatureEventIndex);
    ASSERT_TRUE(balloon_.begin(marks_));
    number(third_, command());
    device_.kick(3);
    const uint32_t asked = command();
    device_.stop();
    EXPECT_EQ(command(), asked);
    EXPECT_FALSE(balloon_.available());
    balloon_.end();
    EXPECT_EQ(command(), kDone);
}

TEST_F(BalloonHintsTest, OnTheOtherSideTheDriverHasItsPagesBack) {
    start(~virtio::kFeatureEventIndex);
    ASSERT_TRUE(balloon_.begin(marks_));
    const uint32_t asked = command();
    SectionWriter out("balloon", 1);
    balloon_.save(out);
    balloon_.end();
    VirtioBalloon other({}, platform_.memory(), clock_);
    auto in = SectionReader::parse(out).value();
    ASSERT_TRUE(other.load(in).ok());
    uint32_t value = 0;
    other.read_config(8, std::span(reinterpret_cast<uint8_t*>(&value), 4));
    EXPECT_EQ(value, kDone);
    EXPECT_FALSE(other.available());
    DeviceFake there(other, platform_.memory());
    ASSERT_TRUE(there.start(~virtio::kFeatureEventIndex).ok());
    other.begin_serving();
    other.begin_serving();
    EXPECT_EQ(there.config_changes, 1);
    ASSERT_TRUE(other.begin(marks_));
    other.read_config(8, std::span(reinterpret_cast<uint8_t*>(&value), 4));
    EXPECT_EQ(value, asked + 1);  // not one that the driver has answered already
    other.end();
}

TEST_F(BalloonTest, StatisticsAreKeptAndAskedFor) {
    start();
    EXPECT_EQ(balloon_.state().statistics_age_ms, -1);
    add_statistics({{4, 1000}, {5, 5000}, {77, 1}});
    device_.kick(2);
    EXPECT_EQ(statistics_.used_index(), 0u);  // the buffer stays with the device
    EXPECT_EQ(device_.statistic("guest_free_bytes"), 1000u);
    EXPECT_EQ(device_.statistic("guest_total_bytes"), 5000u);
    clock_.advance(3 * kNanosPerSecond);
    EXPECT_EQ(balloon_.state().statistics_age_ms, 3000);
    balloon_.request_statistics();
    device_.loop().run_ready();
    EXPECT_EQ(statistics_.used_index(), 1u);  // the driver fills it again
    add_statistics({{4, 2000}});
    device_.kick(2);
    EXPECT_EQ(device_.statistic("guest_free_bytes"), 2000u);
    EXPECT_EQ(balloon_.state().statistics_age_ms, 0);
    balloon_.request_statistics();
    balloon_.request_statistics();  // the second finds the buffer with the driver
    device_.loop().run_ready();
    EXPECT_EQ(statistics_.used_index(), 2u);
}

TEST_F(BalloonTest, APauseGivesTheStatisticsBufferBackUnread) {
    start();
    add_statistics({{4, 1000}});
    device_.kick(2);
    EXPECT_EQ(device_.in_flight(), 1u);
    clock_.advance(kNanosPerSecond);
    balloon_.quiesce();
    EXPECT_EQ(device_.in_flight(), 0u);
    EXPECT_EQ(statistics_.used_index(), 0u);
    balloon_.resume();
    device_.kick(2);
    EXPECT_EQ(device_.in_flight(), 1u);
    EXPECT_EQ(balloon_.state().statistics_age_ms, 1000);  // old values stay old
}

TEST_F(BalloonTest, ItsStateMovesToAnother) {
    start();
    ASSERT_TRUE(balloon_.set_target(4).ok());
    write_config(4, 1024);
    SectionWriter out("balloon", 1);
    balloon_.save(out);
    VirtioBalloon other({}, platform_.memory(), clock_);
    auto in = SectionReader::parse(out).value();
    ASSERT_TRUE(other.load(in).ok());
    EXPECT_EQ(other.state().target_mib, 4u);
    EXPECT_EQ(other.state().actual_mib, 4u);
    SectionWriter huge("balloon", 1);
    huge.u64(1, 1u << 30).u64(2, 0).u64(3, 0);
    auto hostile = SectionReader::parse(huge).value();
    EXPECT_FALSE(other.load(hostile).ok());
}

TEST_F(BalloonTest, HugeAndWrittenStatisticsAreMalformed) {
    start();
    statistics_.add({{0x80'0000, 100'000, false}});
    device_.kick(2);
    statistics_.add({{0x80'0000, 10, true}});
    device_.kick(2);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    EXPECT_EQ(balloon_.state().guest_statistics.size(), 0u);
    device_.stop();
}

}  // namespace
}  // namespace kumoi::hypervisor
