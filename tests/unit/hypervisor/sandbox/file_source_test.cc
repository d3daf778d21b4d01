#include "hypervisor/sandbox/file_source.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "hypervisor/sandbox/spare_connections.h"

namespace kumoi::hypervisor {
namespace {

using Kind = PassedFiles::Kind;
using Keep = PassedFiles::Keep;

class FileSourceTest : public testing::Test {
protected:
    std::string make(const std::string& name, std::string_view content) {
        const std::string path = directory_.path() + "/" + name;
        EXPECT_TRUE(write_file_atomic(path, content).ok());
        return path;
    }
    static UniqueFd opened(const std::string& path, int flags) {
        return open_file(path, flags).value();
    }
    static ino_t inode(const UniqueFd& fd) {
        struct stat status {};
        EXPECT_EQ(fstat(fd.get(), &status), 0);
        return status.st_ino;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("files").value();
    DirectFiles direct_;
    PassedFiles passed_;
};

TEST_F(FileSourceTest, PassedFilesHaveOnlyWhatWasPut) {
    const std::string path = make("disk", "content");
    EXPECT_EQ(passed_.open(path, O_RDONLY).error().code, ErrorCode::NotFound);
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDWR)).ok());
    EXPECT_EQ(passed_.open(path + "x", O_RDONLY).error().code, ErrorCode::NotFound);
    EXPECT_EQ(passed_.listen(path).error().code, ErrorCode::NotFound);
    EXPECT_EQ(passed_.connect(path).error().code, ErrorCode::NotFound);
    EXPECT_EQ(passed_.open_tap(path).error().code, ErrorCode::NotFound);
    EXPECT_EQ(passed_.listen_tcp("127.0.0.1", 5900).error().code, ErrorCode::NotFound);
    const auto disk = passed_.open(path, O_RDWR);
    ASSERT_TRUE(disk.ok());
    EXPECT_EQ(inode(*disk), inode(opened(path, O_RDONLY)));
    EXPECT_NE(fcntl(disk->get(), F_GETFD) & FD_CLOEXEC, 0);
    // Taken: closing it must end its locks, so the table keeps no copy.
    EXPECT_EQ(passed_.open(path, O_RDWR).error().code, ErrorCode::NotFound);
    EXPECT_EQ(passed_.size(), 0u);
}

TEST_F(FileSourceTest, AnOfferedConnectionIsTakenOnceAndTheNewestWins) {
    const std::string path = make("disk.sock", "");
    const auto connect = passed_.connector(path).value();
    EXPECT_EQ(connect().error().code, ErrorCode::Unavailable);
    ASSERT_TRUE(offer_connection(path, opened(make("old", ""), O_RDWR)).ok());
    ASSERT_TRUE(offer_connection(path, opened(make("new", ""), O_RDWR)).ok());
    const auto taken = connect();
    ASSERT_TRUE(taken.ok());
    EXPECT_EQ(inode(*taken), inode(opened(directory_.path() + "/new", O_RDONLY)));
    EXPECT_EQ(connect().error().code, ErrorCode::Unavailable);
    for (size_t i = 0; i < kSpareConnectionsMax; ++i) {
        ASSERT_TRUE(offer_connection(path + std::to_string(i), opened(path, O_RDWR)).ok());
    }
    EXPECT_EQ(offer_connection(path, opened(path, O_RDWR)).error().code, ErrorCode::Exhausted);
    for (size_t i = 0; i < kSpareConnectionsMax; ++i) {
        EXPECT_TRUE(take_offered_connection(path + std::to_string(i)).ok());
    }
}

TEST_F(FileSourceTest, KeptFilesAreDuplicated) {
    const std::string path = make("kernel", "content");
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDONLY), Keep::Always).ok());
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(passed_.open(path, O_RDONLY).ok());
    }
    passed_.forget(Kind::File, path);
    EXPECT_FALSE(passed_.open(path, O_RDONLY).ok());
}

TEST_F(FileSourceTest, AccessIsCheckedAndTheTightestTaken) {
    const std::string path = make("image", "content");
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDONLY)).ok());
    EXPECT_EQ(passed_.open(path, O_RDWR).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(passed_.open(path, O_WRONLY).error().code, ErrorCode::Forbidden);
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDWR)).ok());
    EXPECT_EQ(passed_.open(path, O_RDWR | O_DSYNC).error().code, ErrorCode::Forbidden);
    const auto reader = passed_.open(path, O_RDONLY);
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(fcntl(reader->get(), F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_TRUE(passed_.open(path, O_RDWR).ok());

    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDWR | O_DSYNC)).ok());
    EXPECT_TRUE(passed_.open(path, O_RDWR | O_DSYNC).ok());
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_PATH)).ok());
    EXPECT_EQ(passed_.open(path, O_RDONLY).error().code, ErrorCode::Forbidden);
}

TEST_F(FileSourceTest, FlagsOfTheDescriptionAreSet) {
    const std::string path = make("log", "content");
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDWR | O_APPEND)).ok());
    const auto plain = passed_.open(path, O_RDWR | O_NONBLOCK);
    ASSERT_TRUE(plain.ok());
    EXPECT_EQ(fcntl(plain->get(), F_GETFL) & (O_APPEND | O_NONBLOCK), O_NONBLOCK);
    ASSERT_TRUE(passed_.put(Kind::File, path, opened(path, O_RDWR)).ok());
    const auto emptied = passed_.open(path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND);
    ASSERT_TRUE(emptied.ok());
    EXPECT_EQ(fcntl(emptied->get(), F_GETFL) & O_APPEND, O_APPEND);
    EXPECT_EQ(file_size(path).value(), 0u);
}

TEST_F(FileSourceTest, QueuesOfOneTapComeInOrder) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    const UniqueFd first(ends[0]);
    const UniqueFd second(ends[1]);
    const int first_number = ends[0] + 100;
    const int second_number = ends[1] + 100;
    ASSERT_GE(dup2(ends[0], first_number), 0);
    ASSERT_GE(dup2(ends[1], second_number), 0);
    ASSERT_TRUE(passed_.put(Kind::Tap, "tap0", UniqueFd(first_number)).ok());
    ASSERT_TRUE(passed_.put(Kind::Tap, "tap0", UniqueFd(second_number)).ok());
    EXPECT_EQ(passed_.open_tap("tap0", true)->get(), first_number);
    EXPECT_EQ(passed_.open_tap("tap0", true)->get(), second_number);
    EXPECT_FALSE(passed_.open_tap("tap0", true).ok());
}

TEST_F(FileSourceTest, TheTableIsBounded) {
    const std::string path = make("file", "x");
    for (size_t i = 0; i < PassedFiles::kEntriesMax; ++i) {
        // One number for all would be closed twice; duplicates cost little.
        auto fd = opened(path, O_RDONLY);
        const auto put = passed_.put(Kind::File, path, std::move(fd));
        if (!put.ok()) {  // the descriptor limit of the host
            GTEST_SKIP() << put.error().text();
        }
    }
    EXPECT_EQ(passed_.put(Kind::File, path, opened(path, O_RDONLY)).error().code,
              ErrorCode::Exhausted);
    EXPECT_FALSE(PassedFiles().put(Kind::File, path, UniqueFd()).ok());
    EXPECT_FALSE(PassedFiles().put(Kind::File, "", opened(path, O_RDONLY)).ok());
}

TEST_F(FileSourceTest, DirectSocketsListenConnectAndGo) {
    const std::string path = directory_.path() + "/door";
    EXPECT_EQ(direct_.connect(path).error().code, ErrorCode::NotFound);
    {
        const auto listener = direct_.listen(path, 0600);
        ASSERT_TRUE(listener.ok());
        struct stat status {};
        ASSERT_EQ(stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777, 0600u);
        EXPECT_TRUE(direct_.connect(path).ok());
        EXPECT_EQ(direct_.listen(path).error().code, ErrorCode::Conflict);
    }
    EXPECT_EQ(direct_.connect(path).error().code, ErrorCode::Unavailable);
    EXPECT_TRUE(direct_.listen(path).ok());  // nobody listens on the old file any more
    direct_.remove_socket(path);
    EXPECT_FALSE(path_exists(path));
    EXPECT_EQ(direct_.listen(make("plain", "x")).error().code, ErrorCode::Conflict);
    EXPECT_FALSE(direct_.listen_tcp("localhost", 0).ok());
    EXPECT_TRUE(direct_.listen_tcp("127.0.0.1", 0).ok());
    EXPECT_EQ(tcp_name("127.0.0.1", 5900), "127.0.0.1:5900");
    EXPECT_EQ(tcp_name("::1", 5900), "[::1]:5900");
}

}  // namespace
}  // namespace kumoi::hypervisor
