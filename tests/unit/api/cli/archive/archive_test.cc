#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "api/cli/archive/manifest.h"
#include "api/cli/archive/ovf.h"
#include "api/cli/archive/tar.h"
#include "api/cli/archive/vmdk_check.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::cli {
namespace {

class ArchiveTest : public ::testing::Test {
protected:
    std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
    UniqueFd create(const std::string& name) const {
        return open_file(path(name), O_RDWR | O_CREAT | O_TRUNC).value();
    }
    UniqueFd open(const std::string& name) const { return open_file(path(name), O_RDONLY).value(); }
    void put(const std::string& name, std::string_view content) const {
        ASSERT_TRUE(write_file_atomic(path(name), content));
    }
    const TemporaryDirectory folder_ = TemporaryDirectory::create("kumoi-archive").value();
};

TEST_F(ArchiveTest, TarRoundTrip) {
    const std::string big(100'000, 'b');
    {
        const UniqueFd fd = create("a.tar");
        TarWriter writer(fd.get());
        ASSERT_TRUE(writer.add("one", "1"));
        ASSERT_TRUE(writer.add("empty", ""));
        ASSERT_TRUE(writer.begin("big", big.size()));
        ASSERT_TRUE(writer.write(std::as_bytes(std::span(big).first(60'000))));
        ASSERT_TRUE(writer.write(std::as_bytes(std::span(big).subspan(60'000))));
        ASSERT_TRUE(writer.finish());
    }
    // GNU tar agrees about it.
    EXPECT_EQ(run_checked({"tar", "-tf", path("a.tar")}).value(), "one\nempty\nbig\n");
    EXPECT_EQ(run_checked({"tar", "-xOf", path("a.tar"), "big"}).value(), big);

    const UniqueFd fd = open("a.tar");
    TarReader reader(fd.get());
    EXPECT_EQ(reader.next().value()->name, "one");
    EXPECT_EQ(reader.read_all(10).value(), "1");
    EXPECT_EQ(reader.next().value()->size, 0u);
    EXPECT_EQ(reader.next().value()->name, "big");  // its content is passed over
    EXPECT_FALSE(reader.next().value().has_value());
}

TEST_F(ArchiveTest, ReadsWhatGnuTarWritesAndRefusesPaths) {
    put("x", "content");
    run_checked({"tar", "-C", folder_.path(), "-cf", path("plain.tar"), "./x"}).value();
    {
        const UniqueFd fd = open("plain.tar");
        TarReader reader(fd.get());
        EXPECT_EQ(reader.next().value()->name, "x");
        EXPECT_EQ(reader.read_all(100).value(), "content");
    }
    ASSERT_EQ(symlink("/etc/passwd", path("link").c_str()), 0);
    ASSERT_TRUE(make_directories(path("d")));
    put("d/y", "y");
    for (const char* member : {"link", "d", "d/y"}) {
        run_checked({"tar", "-C", folder_.path(), "-cf", path("bad.tar"), member}).value();
        const UniqueFd fd = open("bad.tar");
        TarReader reader(fd.get());
        EXPECT_FALSE(reader.next()) << member;
    }
}

TEST_F(ArchiveTest, SizesPastEightGibibytes) {
    const uint64_t size = 9ull << 30;
    {
        const UniqueFd fd = create("huge.tar");
        TarWriter writer(fd.get());
        ASSERT_TRUE(writer.begin("disk0", size));
        ASSERT_FALSE(writer.finish());  // and nothing was written of it
    }
    const UniqueFd fd = open("huge.tar");
    TarReader reader(fd.get());
    EXPECT_EQ(reader.next().value()->size, size);
    EXPECT_FALSE(reader.next());  // cut
}

TEST_F(ArchiveTest, DamageIsFound) {
    {
        const UniqueFd fd = create("a.tar");
        TarWriter writer(fd.get());
        ASSERT_TRUE(writer.add("one", std::string(2000, 'x')));
        ASSERT_TRUE(writer.finish());
    }
    const std::string good = read_file(path("a.tar")).value();
    put("cut.tar", good.substr(0, 1000));
    std::string flipped = good;
    flipped[130] ^= 1;
    put("flipped.tar", flipped);
    put("text.tar", std::string(600, 'q'));
    for (const char* name : {"flipped.tar", "text.tar"}) {
        const UniqueFd fd = open(name);
        EXPECT_FALSE(TarReader(fd.get()).next()) << name;
    }
    const UniqueFd fd = open("cut.tar");
    TarReader reader(fd.get());
    ASSERT_TRUE(reader.next());
    EXPECT_FALSE(reader.read_all(5000));
}

OvfMachine example() {
    OvfMachine machine;
    machine.name = "web & \"1\"";
    machine.vcpus = 3;
    machine.memory_mib = 2048;
    machine.uefi = true;
    machine.disks.push_back({"web-disk0.vmdk", 12345, 5ull << 30});
    machine.networks = {"front", "back", "front"};
    return machine;
}

TEST(OvfTest, RoundTrip) {
    const auto read = read_ovf(write_ovf(example()));
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(read->name, example().name);
    EXPECT_EQ(read->vcpus, 3u);
    EXPECT_EQ(read->memory_mib, 2048u);
    EXPECT_TRUE(read->uefi);
    ASSERT_EQ(read->disks.size(), 1u);
    EXPECT_EQ(read->disks[0].file, "web-disk0.vmdk");
    EXPECT_EQ(read->disks[0].capacity_bytes, 5ull << 30);
    EXPECT_EQ(read->networks, example().networks);
    EXPECT_EQ(read->ignored, std::vector<std::string>{"SCSI controller"});
}

// As another system writes it: other prefixes, units and items.
constexpr char kForeign[] = R"(<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"
xmlns:o="http://schemas.dmtf.org/ovf/envelope/1"
         
xmlns:r="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
 <References><File o:href="a.vmdk" o:id="f"/></References>
 <DiskSection>
<Disk o:capacity="20" o:capacityAllocationUnits="byte * 2^30" o:diskId="d" o:fileRef="f"/>
</DiskSection>
 <VirtualSystem o:id="box">
  <VirtualHardwareSection>
   <Item><r:ResourceType>3</r:ResourceType><r:VirtualQuantity>2</r:VirtualQuantity></Item>
   <Item><r:AllocationUnits>MegaBytes</r:AllocationUnits><r:ResourceType>4</r:ResourceType>
<r:VirtualQuantity>512</r:VirtualQuantity></Item>
   <Item><r:ElementName>sound</r:ElementName><r:ResourceType>35</r:ResourceType></Item>
   <StorageItem><r:HostResource>/disk/d</r:HostResource><r:ResourceType>17</r:ResourceType>
</StorageItem>
   <EthernetPortItem><r:Connection>NAT</r:Connection><r:ResourceType>10</r:ResourceType>
</EthernetPortItem>
  </VirtualHardwareSection>
 </VirtualSystem>
</Envelope>)";

TEST(OvfTest, ReadsOthersDescriptors) {
    const auto machine = read_ovf(kForeign);
    ASSERT_TRUE(machine) << machine.error().text();
    EXPECT_EQ(machine->name, "box");
    EXPECT_EQ(machine->memory_mib, 512u);
    EXPECT_EQ(machine->disks.at(0).capacity_bytes, 20ull << 30);
    EXPECT_EQ(machine->networks, std::vector<std::string>{"NAT"});
    EXPECT_EQ(machine->ignored, std::vector<std::string>{"sound"});
}

TEST(OvfTest, RefusesWithReasons) {
    const auto changed = [](std::string from, std::string to) {
        std::string text = kForeign;
        text.replace(text.find(from), from.size(), to);
        return text;
    };
    for (const auto& [text, reason] : std::vector<std::pair<std::string, std::string>>{
             {"not xml", "no XML"},
             {"<Envelope/>", "no virtual system"},
             {changed("fileRef=\"f\"", "fileRef=\"g\""), "not listed"},
             {changed("<r:VirtualQuantity>2<", "<r:VirtualQuantity>0<"), "processors"},
             {changed("MegaBytes", "bananas"), "no amount"},
             {changed("byte * 2^30", "byte * 2^99"), "no amount"},
             {changed("/disk/d<", "/disk/e<"), "names no disk"},
             {changed("o:capacity=\"20\"", "o:capacity=\"99999999999999\""), "no amount"},
             {changed("<StorageItem>", "<Ignored>"), "no XML"}}) {
        const auto machine = read_ovf(text);
        ASSERT_FALSE(machine) << reason;
        EXPECT_NE(machine.error().message.find(reason), std::string::npos)
            << machine.error().message;
    }
}

TEST(OvfTest, ManifestRoundTrip) {
    const auto digests = read_ovf_manifest("SHA256(a b.ovf)= ABCD\r\nSHA1(c)=12\n\n");
    ASSERT_TRUE(digests);
    ASSERT_EQ(digests->size(), 2u);
    EXPECT_EQ(digests->at(0).file, "a b.ovf");
    EXPECT_EQ(digests->at(0).hex, "abcd");
    EXPECT_EQ(write_ovf_manifest(*digests), "SHA256(a b.ovf)= abcd\nSHA1(c)= 12\n");
    EXPECT_FALSE(read_ovf_manifest("whatever\n"));
}

TEST(ManifestTest, RoundTripAndChecks) {
    ServerManifest manifest;
    manifest.name = "web-1";
    manifest.vcpus = 2;
    manifest.memory_mib = 512;
    manifest.disk_gib = 3;
    manifest.networks = {"net"};
    manifest.metadata = {{"k", "v"}};
    manifest.image_properties = {{"hw_disk_bus", "virtio"}, {"owner_specified", "no"}};
    manifest.disk_format = "qcow2";
    manifest.kernel = true;
    const auto read = read_manifest(write_manifest(manifest));
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(read->networks, manifest.networks);
    EXPECT_EQ(read->metadata, manifest.metadata);
    EXPECT_EQ(read->image_properties.size(), 1u);  // only what says how the machine is built
    EXPECT_TRUE(read->kernel);
    EXPECT_FALSE(read->ramdisk);
    for (const char* bad : {"", "[]", "{}", R"({"format": 2})",
                            R"({"format": 1, "server": {"name": "x", "vcpus": 0}})"}) {
        EXPECT_FALSE(read_manifest(bad)) << bad;
    }
}

TEST_F(ArchiveTest, OnlySelfContainedVmdks) {
    run_checked({"qemu-img", "create", "-q", "-f", "raw", path("raw"), "1M"}).value();
    for (const char* type : {"streamOptimized", "monolithicSparse"}) {
        run_checked({"qemu-img", "convert", "-O", "vmdk", "-o", std::string("subformat=") + type,
                     path("raw"), path("good.vmdk")})
            .value();
        const auto checked = check_vmdk(path("good.vmdk"));
        EXPECT_TRUE(checked) << checked.error().text();
    }
    run_checked({"qemu-img", "convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", path("raw"),
                 path("flat.vmdk")})
        .value();
    EXPECT_FALSE(check_vmdk(path("flat.vmdk")));
    EXPECT_FALSE(check_vmdk(path("raw")));

    const std::string good =
        "createType=\"streamOptimized\"\nparentCID=ffffffff\n"
        "RW 2048 SPARSE \"x.vmdk\"\n";
    EXPECT_TRUE(check_vmdk_descriptor(good));
    EXPECT_FALSE(check_vmdk_descriptor(good + "RW 9 FLAT \"/etc/shadow\" 0\n"));
    EXPECT_FALSE(check_vmdk_descriptor(good + "RW 9 SPARSE \"y.vmdk\"\n"));
    EXPECT_FALSE(check_vmdk_descriptor(good + "parentFileNameHint=\"/etc/shadow\"\n"));
    EXPECT_FALSE(check_vmdk_descriptor("createType=\"monolithicFlat\"\n"));
}

}  // namespace
}  // namespace kumoi::cli
