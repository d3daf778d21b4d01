// What qemu-storage-daemon is told about a volume, from what Cinder's drivers answer.
#include "compute/volumes/connection_info.h"

#include <gtest/gtest.h>

#include "compute/volumes/storage_daemon.h"

namespace kumoi::compute {
namespace {

const VolumeSourceOptions kOptions = {.initiator = "iqn.test:host", .nfs_user = 0, .nfs_group = 7};

Result<VolumeSource> parse(const char* text) {
    return parse_connection_info(Json::parse(text).value(), kOptions);
}

TEST(ConnectionInfo, ISCSIWithChap) {
    const auto source = parse(R"({"driver_volume_type": "iscsi", "data": {
        "target_portal": "10.250.0.1:3260", "target_iqn": "iqn.2010-10.org.openstack:volume-a",
        "target_lun": 1, "auth_method": "CHAP", "auth_username": "u", "auth_password": "p",
        "discard": true, "access_mode": "rw"}})");
    ASSERT_TRUE(source.ok()) << source.error().text();
    EXPECT_EQ(source->node.dump(),
              R"({"driver":"iscsi","transport":"tcp","portal":"10.250.0.1:3260",)"
              R"("target":"iqn.2010-10.org.openstack:volume-a","lun":1,)"
              R"("initiator-name":"iqn.test:host","user":"u","password-secret":"chap",)"
              R"("discard":"unmap"})");
    EXPECT_FALSE(source->read_only);
    const auto commands = open_commands(*source, "v1");
    ASSERT_EQ(commands.size(), 2u);
    EXPECT_EQ(commands[0].first, "object-add");
    EXPECT_EQ(commands[0].second.dump(), R"({"qom-type":"secret","id":"v1-chap","data":"p"})");
    EXPECT_EQ(commands[1].first, "blockdev-add");
    EXPECT_EQ(commands[1].second.string_or("password-secret"), "v1-chap");
    EXPECT_EQ(commands[1].second.string_or("node-name"), "v1");
}

TEST(ConnectionInfo, OfSeveralPathsTheFirst) {
    const auto source = parse(R"({"driver_volume_type": "iscsi", "data": {
        "target_portals": ["[fd00::1]:3260", "10.0.0.2:3260"], "target_iqns": ["iqn.a", "iqn.b"],
        "target_luns": [0, 1], "access_mode": "ro"}})");
    ASSERT_TRUE(source.ok()) << source.error().text();
    EXPECT_EQ(source->place, "[fd00::1]:3260 iqn.a 0");
    EXPECT_TRUE(source->read_only);
    EXPECT_EQ(open_commands(*source, "v")[0].second.bool_or("read-only"), true);
}

TEST(ConnectionInfo, NFSFiles) {
    const auto source = parse(R"({"driver_volume_type": "nfs", "data": {
        "export": "10.250.0.1:/volumes", "name": "volume-a", "options": null}})");
    ASSERT_TRUE(source.ok()) << source.error().text();
    EXPECT_EQ(source->node.dump(),
              R"({"driver":"nfs","server":{"type":"inet","host":"10.250.0.1"},)"
              R"("path":"/volumes/volume-a","user":0,"group":7})");
    EXPECT_TRUE(source->wants_low_port());
    const auto qcow2 = parse(R"({"driver_volume_type": "nfs", "data": {
        "export": "[fd00::1]:/v/", "name": "volume-a", "format": "qcow2"}})");
    ASSERT_TRUE(qcow2.ok());
    EXPECT_EQ(qcow2->node.string_or("driver"), "qcow2");
    EXPECT_EQ(qcow2->place, "fd00::1:/v/volume-a");
}

TEST(ConnectionInfo, CephImages) {
    const auto source = parse(R"({"driver_volume_type": "rbd", "data": {
        "name": "volumes/volume-a", "hosts": ["10.0.0.1", "[fd00::1]"], "ports": ["6789", "6789"],
        "cluster_name": "ceph", "auth_enabled": true, "auth_username": "cinder",
        "keyring": "[client.cinder]\n\tkey = AQB==\n\tcaps = x\n"}})");
    ASSERT_TRUE(source.ok()) << source.error().text();
    EXPECT_EQ(source->node.dump(),
              R"({"driver":"rbd","pool":"volumes","image":"volume-a",)"
              R"("server":[{"host":"10.0.0.1","port":"6789"},{"host":"fd00::1","port":"6789"}],)"
              R"("user":"cinder","key-secret":"ceph"})");
    ASSERT_EQ(source->secrets.size(), 1u);
    EXPECT_EQ(source->secrets[0].second, "AQB==");
    // QEMU writes what it holds as base64 itself: told as text, Ceph would get it twice so.
    const auto commands = open_commands(*source, "v1");
    EXPECT_EQ(commands[0].second.dump(),
              R"({"qom-type":"secret","id":"v1-ceph","data":"AQB==","format":"base64"})");
    EXPECT_EQ(commands[1].second.string_or("key-secret"), "v1-ceph");
    const auto from_files = parse(R"({"driver_volume_type": "rbd", "data": {
        "name": "volumes/volume-a", "cluster_name": "east", "auth_enabled": true,
        "auth_username": "cinder"}})");
    ASSERT_TRUE(from_files.ok());
    EXPECT_EQ(from_files->node.string_or("conf"), "/etc/ceph/east.conf");
    EXPECT_EQ(from_files->key_file, "/etc/ceph/east.client.cinder.keyring");
}

TEST(ConnectionInfo, PathsOfThisHost) {
    EXPECT_EQ(parse(R"({"driver_volume_type": "local", "data": {"device_path": "/dev/sdb"}})")
                  ->node.dump(),
              R"({"driver":"host_device","filename":"/dev/sdb"})");
}

TEST(ConnectionInfo, WhatCannotBeUsedSaysWhy) {
    struct Case {
        const char* text;
        const char* fault;
    };
    for (const Case& bad : std::initializer_list<Case>{
             {R"([])", "InvalidVolume"},
             {R"({"driver_volume_type": "iscsi"})", "InvalidVolume"},
             {R"({"driver_volume_type": "fibre_channel", "data": {}})", "VolumeDriverNotFound"},
             {R"({"driver_volume_type": "iscsi", "data": {"encrypted": true}})",
              "VolumeEncryptionNotSupported"},
             {R"({"driver_volume_type": "iscsi", "data": {"target_portal": "a",
                 "target_iqn": "b", "target_lun": 256}})",
              "InvalidVolume"},
             {R"({"driver_volume_type": "iscsi", "data": {"target_portal": "a",
                 "target_iqn": "b", "target_lun": 1, "auth_method": "KRB5"}})",
              "InvalidVolume"},
             {R"({"driver_volume_type": "nfs", "data": {"export": "/local", "name": "x"}})",
              "InvalidVolume"},
             {R"({"driver_volume_type": "nfs", "data": {"export": "a:/b", "name": "../x"}})",
              "InvalidVolume"},
             {R"({"driver_volume_type": "nfs", "data": {"export": "a:/b", "name": "x",
                 "format": "vmdk"}})",
              "InvalidVolume"},
             {R"({"driver_volume_type": "rbd", "data": {"name": "nopool"}})", "InvalidVolume"},
             {R"({"driver_volume_type": "rbd", "data": {"name": "a/b", "cluster_name": "../x"}})",
              "InvalidVolume"},
             {R"({"driver_volume_type": "rbd", "data": {"name": "a/b", "hosts": ["h"],
                 "ports": []}})",
              "InvalidVolume"},
         }) {
        const auto source = parse(bad.text);
        ASSERT_FALSE(source.ok()) << bad.text;
        EXPECT_EQ(source.error().fault, bad.fault) << bad.text;
    }
}

TEST(StorageDaemon, HasNoRightsAndNoSecretOnItsCommandLine) {
    StorageDaemonOptions options;
    options.program = "/usr/bin/qemu-storage-daemon";
    EXPECT_EQ(storage_daemon_argv(options, 0, false, "/s/qmp"),
              (std::vector<std::string>{"/usr/bin/qemu-storage-daemon", "--chardev",
                                        "socket,id=orders,path=/s/qmp,server=on,wait=off",
                                        "--monitor", "chardev=orders"}));
    const auto other = storage_daemon_argv(options, 70'000, false, "/s/qmp");
    EXPECT_EQ(std::vector<std::string>(other.begin(), other.begin() + 11),
              (std::vector<std::string>{"setpriv", "--reuid", "70000", "--regid", "70000",
                                        "--clear-groups", "--no-new-privs", "--inh-caps", "-all",
                                        "--bounding-set", "-all"}));
    EXPECT_EQ(node_name("8e8e6611-d341-4184-816c-58e53837162b"), "v8e8e6611d3414184816c58e5383716");
}

}  // namespace
}  // namespace kumoi::compute
