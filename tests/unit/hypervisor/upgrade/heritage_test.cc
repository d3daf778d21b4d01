#include "hypervisor/upgrade/heritage.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/file.h"
#include "base/unix_socket.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/sandbox/left_files.h"
#include "hypervisor/upgrade/heir_files.h"
#include "hypervisor/upgrade/heir_memory.h"

namespace kumoi::hypervisor {
namespace {

constexpr int64_t kPatienceMs = 10'000;

struct SocketPair {
    SocketPair() {
        int ends[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        here.reset(ends[0]);
        there.reset(ends[1]);
    }
    UniqueFd here, there;
};

UniqueFd memory_file(uint64_t size) {
    UniqueFd file(memfd_create("test", MFD_CLOEXEC));
    EXPECT_EQ(ftruncate(file.get(), static_cast<off_t>(size)), 0);
    return file;
}

UniqueFd listener(const std::string& path) {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = unix_address(path);
    EXPECT_TRUE(address.ok());
    EXPECT_EQ(bind(fd.get(), address->generic(), sizeof address->address), 0);
    EXPECT_EQ(listen(fd.get(), 1), 0);
    return fd;
}

bool same_file(int one, int other) {
    struct stat a {};
    struct stat b {};
    return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

Result<void> check(std::string name, UniqueFd fd) {
    return Heritage::check({std::move(name), std::move(fd), {}});
}

TEST(Heritage, ComesOverAsItIs) {
    Heritage older;
    const UniqueFd ram = memory_file(4096);
    older.remember(std::string(kRamName), ram.get());
    older.remember("tap:tap0", ram.get());
    older.remember_offloads("tap:tap0", 5);
    older.remember("tap:gone", ram.get());
    older.forget("tap:gone");
    const SocketPair sockets;
    ASSERT_TRUE(older.send(sockets.here.get()).ok());
    auto items = Heritage::receive(sockets.there.get(), kPatienceMs);
    ASSERT_TRUE(items.ok()) << items.error().text();
    ASSERT_EQ(items->size(), 2u);
    Heritage newer;
    EXPECT_FALSE(newer.is_heir());
    newer.inherit(std::move(*items));
    EXPECT_TRUE(newer.is_heir());
    EXPECT_EQ(newer.inherited_offloads("tap:tap0"), std::optional<uint32_t>(5));
    EXPECT_EQ(newer.inherited_offloads("tap:tap1"), std::nullopt);
    const UniqueFd taken = newer.take(std::string(kRamName));
    ASSERT_TRUE(taken.is_open());
    EXPECT_TRUE(same_file(taken.get(), ram.get()));
    EXPECT_FALSE(newer.take(std::string(kRamName)).is_open());  // there was one
    EXPECT_TRUE(newer.inherited(std::string(kRamName)));
    newer.close_rest();
    EXPECT_FALSE(newer.take("tap:tap0").is_open());
}

TEST(Heritage, QueuesOfOneNameKeepTheirOrder) {
    Heritage older;
    const UniqueFd first = memory_file(1);
    const UniqueFd second = memory_file(2);
    older.remember("tap:tap0", first.get());
    older.remember("tap:tap0", second.get());
    const SocketPair sockets;
    ASSERT_TRUE(older.send(sockets.here.get()).ok());
    Heritage newer;
    newer.inherit(std::move(Heritage::receive(sockets.there.get(), kPatienceMs)).value());
    EXPECT_TRUE(same_file(newer.take("tap:tap0").get(), first.get()));
    EXPECT_TRUE(same_file(newer.take("tap:tap0").get(), second.get()));
}

TEST(Heritage, WhatIsNoListIsRefused) {
    for (const std::string text :
         {"\n", "{}\n", "[]\n", "{\"descriptors\": [{}]}\n",
          "{\"descriptors\": [{\"name\": \"memory:ram\"}]}\n", "{\"descriptors\": 7}\n"}) {
        const SocketPair sockets;
        ASSERT_EQ(write(sockets.here.get(), text.data(), text.size()),
                  static_cast<ssize_t>(text.size()));
        EXPECT_FALSE(Heritage::receive(sockets.there.get(), kPatienceMs).ok()) << text;
    }
    SocketPair sockets;
    sockets.here.reset();
    EXPECT_FALSE(Heritage::receive(sockets.there.get(), kPatienceMs).ok());
}

TEST(Heritage, AnEndlessListIsRefused) {
    const SocketPair sockets;
    const std::string text((64u << 10) + 5000, ' ');
    size_t sent = 0;
    while (sent < text.size()) {  // what does not fit would not be read either
        const ssize_t count =
            send(sockets.here.get(), text.data() + sent, text.size() - sent, MSG_DONTWAIT);
        ASSERT_GT(count, 0);
        sent += static_cast<size_t>(count);
    }
    const auto items = Heritage::receive(sockets.there.get(), kPatienceMs);
    ASSERT_FALSE(items.ok());
    EXPECT_EQ(items.error().code, ErrorCode::TooLarge);
}

TEST(Heritage, EachMustBeWhatItsNameSays) {
    const auto folder = TemporaryDirectory::create("heritage");
    ASSERT_TRUE(folder.ok());
    const std::string path = folder->path() + "/file";
    const std::string door = folder->path() + "/door.sock";
    ASSERT_TRUE(write_file_atomic(path, "content").ok());
    const UniqueFd open_door = listener(door);
    const auto host_file = [&] { return std::move(open_file(path, O_RDWR)).value(); };

    EXPECT_TRUE(check("memory:ram", memory_file(1)).ok());
    EXPECT_FALSE(check("memory:ram", host_file()).ok());  // a file of the host
    EXPECT_TRUE(check(path, host_file()).ok());
    EXPECT_FALSE(check(path, memory_file(1)).ok());
    EXPECT_FALSE(check(path + ".absent", host_file()).ok());
    EXPECT_TRUE(check("listen:" + door, std::move(open_door.duplicate()).value()).ok());
    EXPECT_FALSE(check("listen:" + door + "2", std::move(open_door.duplicate()).value()).ok());
    EXPECT_FALSE(check("listen:" + door, memory_file(1)).ok());
    EXPECT_FALSE(check("tcp:127.0.0.1:1", std::move(open_door.duplicate()).value()).ok());
    EXPECT_FALSE(check("tap:tap0", host_file()).ok());
    EXPECT_FALSE(check("something else", memory_file(1)).ok());
    const SocketPair connected;
    EXPECT_FALSE(check("listen:" + door, std::move(connected.here.duplicate()).value()).ok());
}

TEST(HeirFiles, WhatIsInheritedIsNotOpened) {
    const auto folder = TemporaryDirectory::create("heritage");
    ASSERT_TRUE(folder.ok());
    const std::string door = folder->path() + "/door.sock";
    HeirFiles older(direct_files());
    const auto first = older.listen(door);
    ASSERT_TRUE(first.ok());
    ASSERT_EQ(older.heritage()->items().size(), 1u);
    const SocketPair sockets;
    ASSERT_TRUE(older.heritage()->send(sockets.here.get()).ok());

    HeirFiles newer(direct_files());
    newer.heritage()->inherit(
        std::move(Heritage::receive(sockets.there.get(), kPatienceMs)).value());
    EXPECT_EQ(newer.heritage()->inherited_sockets(), std::vector<std::string>{door});
    const auto second = newer.listen(door);  // anybody else would be refused: somebody listens
    ASSERT_TRUE(second.ok()) << second.error().text();
    EXPECT_TRUE(same_file(first->get(), second->get()));
    EXPECT_EQ(newer.heritage()->items().size(), 1u);  // for the next one

    older.given_away();
    older.remove_socket(door);
    EXPECT_TRUE(path_exists(door));
    newer.remove_socket(door);
    EXPECT_FALSE(path_exists(door));
}

TEST(HeirMemory, TheSamePagesAreMapped) {
    Heritage heritage;
    HeirMemoryHost host(system_memory_host(), &heritage);
    auto older = GuestMemory::create({.size = 1u << 20, .page_size = 0, .hot = {}}, host);
    ASSERT_TRUE(older.ok());
    host.remember(older->fd());
    ASSERT_TRUE(older->store<uint32_t>(0x1234, 0xfeed).ok());
    const SocketPair sockets;
    ASSERT_TRUE(heritage.send(sockets.here.get()).ok());

    Heritage other;
    other.inherit(std::move(Heritage::receive(sockets.there.get(), kPatienceMs)).value());
    HeirMemoryHost heir(system_memory_host(), &other);
    auto newer = GuestMemory::create({.size = 1u << 20, .page_size = 0, .hot = {}}, heir);
    ASSERT_TRUE(newer.ok()) << newer.error().text();
    EXPECT_EQ(newer->load<uint32_t>(0x1234).value(), 0xfeedu);
    ASSERT_TRUE(newer->store<uint32_t>(0x1234, 0xbeef).ok());
    EXPECT_EQ(older->load<uint32_t>(0x1234).value(), 0xbeefu);
}

TEST(HeirMemory, AnotherSizeIsNeverCut) {
    Heritage heritage;
    const UniqueFd file = memory_file(2u << 20);
    std::vector<Heritage::Item> items;
    items.push_back({std::string(kRamName), std::move(file.duplicate()).value(), {}});
    heritage.inherit(std::move(items));
    HeirMemoryHost host(system_memory_host(), &heritage);
    EXPECT_FALSE(GuestMemory::create({.size = 1u << 20, .page_size = 0, .hot = {}}, host).ok());
    struct stat status {};
    ASSERT_EQ(fstat(file.get(), &status), 0);
    EXPECT_EQ(status.st_size, 2 << 20);
}

TEST(Heritage, MemoryIsMadeOnceAndInherited) {
    Heritage older;
    const auto made = older.memory("memory:display", 8192);
    ASSERT_TRUE(made.ok());
    std::vector<Heritage::Item> items;
    items.push_back({"memory:display", std::move(made->duplicate()).value(), {}});
    Heritage newer;
    newer.inherit(std::move(items));
    EXPECT_FALSE(newer.memory("memory:display", 4096).ok());  // another machine's
    items.clear();
    items.push_back({"memory:display", std::move(made->duplicate()).value(), {}});
    newer.inherit(std::move(items));
    const auto same = newer.memory("memory:display", 8192);
    ASSERT_TRUE(same.ok());
    EXPECT_TRUE(same_file(made->get(), same->get()));
}

TEST(LeftFiles, OnlyWhatIsOursAndNobodysElseGoes) {
    const auto folder = TemporaryDirectory::create("left");
    ASSERT_TRUE(folder.ok());
    const std::string mine = folder->path() + "/mine.sock";
    const std::string shared = folder->path() + "/shared.sock";
    const std::string renamed = folder->path() + "/renamed.sock";
    const std::string pid = folder->path() + "/pid";
    const std::string other_pid = folder->path() + "/other_pid";
    { const UniqueFd closed = listener(mine); }
    const UniqueFd still_open = listener(shared);
    { const UniqueFd closed = listener(renamed); }
    LeftFiles left;
    for (const std::string& path : {mine, shared, renamed}) {
        left.add_socket(path);
    }
    ASSERT_TRUE(write_file_atomic(pid, "7\n").ok());
    ASSERT_TRUE(write_file_atomic(other_pid, "8\n").ok());
    left.add_file(pid, "7\n");
    left.add_file(other_pid, "7\n");
    const std::string newer = folder->path() + "/newer.sock";
    const UniqueFd newer_door = listener(newer);
    ASSERT_EQ(rename(newer.c_str(), renamed.c_str()), 0);  // another's takes its place
    left.remove();
    EXPECT_FALSE(path_exists(mine));
    EXPECT_TRUE(path_exists(shared));
    EXPECT_TRUE(path_exists(renamed));
    EXPECT_FALSE(path_exists(pid));
    EXPECT_TRUE(path_exists(other_pid));
}

}  // namespace
}  // namespace kumoi::hypervisor
