#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/random.h"
#include "hypervisor/snapshot/memory_loader.h"
#include "hypervisor/snapshot/pages.h"
#include "hypervisor/snapshot/snapshot_reader.h"
#include "hypervisor/snapshot/snapshot_writer.h"
#include "hypervisor/snapshot/working_set.h"

using namespace kumoi;
using namespace kumoi::hypervisor;
using namespace kumoi::hypervisor::snapshot;

namespace {

constexpr uint64_t kMemory = 5 * kBlockSize + 3 * kPageSize;  // the last block is short

class SnapshotFile : public testing::Test {
protected:
    void SetUp() override {
        char name[] = "/tmp/kumoi-snapshot-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    std::string path(const std::string& name) const { return folder_ + "/" + name; }
    // Block 0 random, block 1 zero, block 2 with pages 3 and 15, the others random.
    static std::vector<std::byte> memory() {
        std::vector<std::byte> bytes(kMemory);
        SeededRandom random(7);
        for (std::byte& byte : bytes) {
            byte = static_cast<std::byte>(random.next());
        }
        std::fill(bytes.begin() + kBlockSize, bytes.begin() + 3 * kBlockSize, std::byte{0});
        bytes[2 * kBlockSize + 3 * kPageSize + 17] = std::byte{1};
        bytes[3 * kBlockSize - 1] = std::byte{2};
        return bytes;
    }
    Result<std::unique_ptr<SnapshotWriter>> writer(const std::string& name,
                                                   Compression compression) {
        SnapshotOutput output;
        output.partial = path(name + ".part");
        output.path = path(name);
        output.fd = TRY(open_file(output.partial, O_RDWR | O_CREAT | O_TRUNC));
        return SnapshotWriter::create(std::move(output), kMemory, compression);
    }
    static SnapshotInfo info() { return {"kumoi-1", "0.1", "{}", "/srv", "digest", 1234}; }
    static std::vector<SectionWriter> sections() {
        std::vector<SectionWriter> all;
        all.emplace_back("serial", uint16_t{1}).u64(1, 42);
        all.emplace_back("vcpu0", uint16_t{3}).text(2, "registers");
        return all;
    }
    void write(const std::string& name, Compression compression) {
        auto made = writer(name, compression);
        ASSERT_TRUE(made.ok());
        const auto bytes = memory();
        const std::span<const std::byte> all(bytes);
        // In any order, in pieces.
        ASSERT_TRUE((*made)->write_blocks(3, all.subspan(3 * kBlockSize)).ok());
        ASSERT_TRUE((*made)->write_blocks(0, all.first(3 * kBlockSize)).ok());
        EXPECT_FALSE(std::filesystem::exists(path(name)));
        const auto done = (*made)->finish(info(), sections());
        ASSERT_TRUE(done.ok()) << done.error().text();
        EXPECT_FALSE(std::filesystem::exists(path(name + ".part")));
    }
    Result<std::unique_ptr<SnapshotReader>> read(const std::string& name) {
        return SnapshotReader::open(TRY(open_file(path(name), O_RDONLY)), name);
    }
    std::string content(const std::string& name) const {
        return read_file(path(name), 64u << 20).value();
    }
    // What opening and reading everything says of these bytes.
    Result<void> verdict(const std::string& bytes) {
        TRY(write_file_atomic(path("changed"), bytes));
        auto reader = TRY(read("changed"));
        for (const IndexedSection& section : reader->index().sections) {
            TRY(reader->section(section.name));
        }
        std::vector<std::byte> block(kBlockSize);
        for (uint64_t i = 0; i < reader->block_count(); ++i) {
            TRY(reader->read_block(i, std::span(block).first(reader->block_bytes(i))));
        }
        return {};
    }

    std::vector<std::byte> read_memory(const std::string& name) {
        auto reader = read(name).value();
        std::vector<std::byte> all(kMemory);
        for (uint64_t i = 0; i < reader->block_count(); ++i) {
            EXPECT_TRUE(
                reader
                    ->read_block(i, std::span(all).subspan(i * kBlockSize, reader->block_bytes(i)))
                    .ok());
        }
        return all;
    }

    std::string folder_;
};

}  // namespace

TEST(Crc32c, MatchesKnownValuesAndItself) {
    const std::string digits = "123456789";
    const auto bytes = std::as_bytes(std::span(digits));
    EXPECT_EQ(crc32c(bytes), 0xe3069283u);  // RFC 3720 §B.4
    EXPECT_EQ(crc32c_portable(bytes), 0xe3069283u);
    EXPECT_EQ(crc32c(bytes.subspan(4), crc32c(bytes.first(4))), 0xe3069283u);
    const std::vector<std::byte> zeros(32);
    EXPECT_EQ(crc32c(zeros), 0x8a9136aau);
}

TEST(Pages, FindsTheOneByte) {
    alignas(4096) static std::byte block[kBlockSize];
    EXPECT_EQ(present_pages(block), 0);
    for (const size_t at : {size_t{0}, size_t{4095}, size_t{4096}, kBlockSize - 1}) {
        block[at] = std::byte{0x80};
        EXPECT_EQ(present_pages(block), 1u << (at / kPageSize)) << at;
        block[at] = std::byte{0};
    }
    std::vector<std::pair<unsigned, unsigned>> runs;
    for_each_run(0xc00du, [&](unsigned first, unsigned count) { runs.emplace_back(first, count); });
    EXPECT_EQ(runs, (std::vector<std::pair<unsigned, unsigned>>{{0, 1}, {2, 2}, {14, 2}}));
    runs.clear();
    for_each_run(0xffffffffu,
                 [&](unsigned first, unsigned count) { runs.emplace_back(first, count); });
    EXPECT_EQ(runs, (std::vector<std::pair<unsigned, unsigned>>{{0, 32}}));
}

// What the golden file format-1-unit was made from.
TEST_F(SnapshotFile, TheFormatIsDeterministic) {
    write("one", Compression::None);
    write("two", Compression::None);
    EXPECT_EQ(content("one"), content("two"));
    if (const char* folder = std::getenv("KUMOI_WRITE_GOLDEN")) {
        std::filesystem::copy(path("one"), std::string(folder) + "/format-1-unit");
    }
}

TEST_F(SnapshotFile, ReadsBackMemoryAndSections) {
    for (const Compression compression : {Compression::None, Compression::Zstd}) {
        const std::string name = compression == Compression::None ? "raw" : "packed";
        write(name, compression);
        auto reader = read(name);
        ASSERT_TRUE(reader.ok()) << reader.error().text();
        EXPECT_EQ((*reader)->memory_size(), kMemory);
        EXPECT_EQ((*reader)->index().info.board, "kumoi-1");
        EXPECT_EQ((*reader)->index().info.created_ns, 1234);
        EXPECT_EQ((*reader)->section("serial")->u64(1).value(), 42u);
        auto vcpu = (*reader)->section("vcpu0");
        EXPECT_EQ(vcpu->version(), 3);
        EXPECT_EQ(vcpu->text(2).value(), "registers");
        EXPECT_FALSE((*reader)->section("vcpu1").ok());
        auto ram = GuestMemory::create(kMemory).value();
        ASSERT_TRUE(load_all_blocks(**reader, ram, 2).ok());
        const auto expected = memory();
        EXPECT_EQ(std::memcmp(ram.regions().front().host, expected.data(), kMemory), 0);
        std::vector<std::byte> block(kBlockSize);
        EXPECT_EQ((*reader)->read_block(1, block).value(), 0);
        EXPECT_EQ((*reader)->read_block(2, block).value(), 0x8008);
    }
}

TEST_F(SnapshotFile, ZeroPagesAreHoles) {
    write("file", Compression::None);
    struct stat status {};
    ASSERT_EQ(stat(path("file").c_str(), &status), 0);
    EXPECT_GE(static_cast<uint64_t>(status.st_size), kMemoryOffset + kMemory);
    EXPECT_LT(static_cast<uint64_t>(status.st_blocks) * 512, 6 * kBlockSize);
}

TEST_F(SnapshotFile, UnfinishedWriterLeavesNoFile) {
    {
        auto made = writer("file", Compression::None);
        ASSERT_TRUE((*made)->write_blocks(0, memory()).ok());
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(SnapshotFile, EveryTruncationIsRefused) {
    write("file", Compression::Zstd);
    const std::string whole = content("file");
    for (size_t size = 0; size < whole.size(); size += size < 200 ? 7 : 40999) {
        EXPECT_FALSE(verdict(whole.substr(0, size)).ok()) << size;
    }
    EXPECT_FALSE(verdict(whole.substr(0, whole.size() - 1)).ok());
    EXPECT_TRUE(verdict(whole).ok());
}

// Every byte that means something is under a checksum: header, frames, sections, table, index,
// trailer. (Between the header and the memory part nothing is read; a frame may say the same in
// other bytes.)
TEST_F(SnapshotFile, EveryChangedByteIsNoticed) {
    write("file", Compression::Zstd);
    const std::string whole = content("file");
    constexpr size_t kBehindMemory = 482;  // sections, table, index, trailer
    const auto changed_at = [&](size_t at) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ 0x40);
        return verdict(changed);
    };
    for (size_t at = 0; at < 64; at += 3) {
        EXPECT_FALSE(changed_at(at).ok()) << at;
    }
    for (size_t back = 1; back <= kBehindMemory; back += 3) {
        EXPECT_FALSE(changed_at(whole.size() - back).ok()) << back;
    }
    for (size_t at = kMemoryOffset; at < whole.size() - kBehindMemory; at += 9973) {
        if (changed_at(at)) {
            EXPECT_EQ(read_memory("changed"), memory()) << at;
        }
    }
    EXPECT_TRUE(changed_at(kMemoryOffset / 2).ok());
}

TEST_F(SnapshotFile, RawMemoryThatChangedIsRefusedByItsAddress) {
    write("file", Compression::None);
    std::string changed = content("file");
    changed[kMemoryOffset + 3 * kBlockSize + 5] ^= 1;
    const auto refused = verdict(changed);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("guest memory at 0x30000"), std::string::npos);
}

TEST_F(SnapshotFile, WorkingSetIsKeptAndOnlyBelievedWhenItFits) {
    const std::vector<uint32_t> blocks = {5, 1, 3};
    write_working_set(direct_files(), path("file"), 77, blocks);
    EXPECT_EQ(read_working_set(direct_files(), path("file"), 77), blocks);
    EXPECT_TRUE(read_working_set(direct_files(), path("file"), 78).empty());
    std::string bytes = content("file.ws");
    bytes[17] ^= 1;
    ASSERT_TRUE(write_file_atomic(path("file.ws"), bytes).ok());
    EXPECT_TRUE(read_working_set(direct_files(), path("file"), 77).empty());
    EXPECT_TRUE(read_working_set(direct_files(), path("none"), 77).empty());
}

// Files that earlier releases wrote, packed with zstd: every later one must read them.
TEST_F(SnapshotFile, GoldenFilesOfEarlierReleasesAreRead) {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("tests/golden/snapshot")) {
        if (entry.path().extension() != ".zst") {
            continue;
        }
        ++count;
        const std::string packed = read_file(entry.path().string(), 64u << 20).value();
        std::string whole(ZSTD_getFrameContentSize(packed.data(), packed.size()), '\0');
        ASSERT_EQ(ZSTD_decompress(whole.data(), whole.size(), packed.data(), packed.size()),
                  whole.size());
        ASSERT_TRUE(write_file_atomic(path("golden"), whole).ok());
        auto reader = read("golden");
        ASSERT_TRUE(reader.ok()) << entry.path() << ": " << reader.error().text();
        auto ram = GuestMemory::create((*reader)->memory_size()).value();
        EXPECT_TRUE(load_all_blocks(**reader, ram, 1).ok()) << entry.path();
        for (const IndexedSection& section : (*reader)->index().sections) {
            EXPECT_TRUE((*reader)->section(section.name).ok());
        }
        if (entry.path().filename() == "format-1-unit.zst") {
            const auto expected = memory();
            EXPECT_EQ(std::memcmp(ram.regions().front().host, expected.data(), kMemory), 0);
            EXPECT_EQ((*reader)->section("vcpu0")->text(2).value(), "registers");
        }
    }
    EXPECT_GE(count, 1u);
}
