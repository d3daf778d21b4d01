"""Cinder volume driver: each volume is a sparse file, given out over iSCSI by tgtd (user space, so it runs where
the kernel has neither device mapper nor a target module). CHAP with a secret per export; more than one initiator
may log in, so multiattach volumes work. For tests: one machine, no replication, no QoS."""
import os
import re
import secrets
import shutil

from oslo_concurrency import lockutils
from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_utils import units

from cinder import interface
from cinder.image import image_utils
from cinder.volume import configuration
from cinder.volume import driver

OPTIONS = [cfg.StrOpt("volumes_folder", help="Folder of the files that back volumes and snapshots.")]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


def tgtadm(operation, mode, *flags, **words):
    command = ["tgtadm", "--lld", "iscsi", "--op", operation, "--mode", mode, *flags]
    for name, value in words.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    return processutils.execute(*command)[0]


def target_id(iqn):
    """The number tgtd knows a target by, or None."""
    found = re.search(rf"^Target (\d+): {re.escape(iqn)}$", tgtadm("show", "target"), re.M)
    return int(found.group(1)) if found else None


@interface.volumedriver
class FileTargetDriver(driver.VolumeDriver):
    VERSION = "1.0"
    CI_WIKI_NAME = "none"

    def __init__(self, *words, **named):
        super().__init__(*words, **named)
        self.configuration.append_config_values(OPTIONS)

    def do_setup(self, context):
        self.folder = self.configuration.volumes_folder
        os.makedirs(self.folder, exist_ok=True)

    def check_for_setup_error(self):
        tgtadm("show", "target")

    def path(self, record):
        return os.path.join(self.folder, record.name)

    # Files
    def create_volume(self, volume):
        with open(self.path(volume), "xb") as file:
            file.truncate(volume.size * units.Gi)

    def delete_volume(self, volume):
        if os.path.exists(self.path(volume)):
            os.unlink(self.path(volume))

    def _copy(self, source, target, size=None):
        processutils.execute("cp", "--sparse=always", source, target)
        if size:
            os.truncate(target, size * units.Gi)

    def create_snapshot(self, snapshot):
        self._copy(os.path.join(self.folder, snapshot.volume_name), self.path(snapshot))

    def delete_snapshot(self, snapshot):
        self.delete_volume(snapshot)

    def create_volume_from_snapshot(self, volume, snapshot):
        self._copy(self.path(snapshot), self.path(volume), volume.size)

    def create_cloned_volume(self, volume, src_vref):
        self._copy(self.path(src_vref), self.path(volume), volume.size)

    def extend_volume(self, volume, new_size):
        os.truncate(self.path(volume), new_size * units.Gi)
        number = target_id(self._iqn(volume))
        if number is not None:  # tgtd learns a size only when a unit is made; initiators keep their sessions
            self._make_unit(number, volume, again=True)

    def copy_image_to_volume(self, context, volume, image_service, image_id, disable_sparse=False):
        image_utils.fetch_to_raw(context, image_service, image_id, self.path(volume), self.configuration.volume_dd_blocksize,
                                 size=volume.size)
        os.truncate(self.path(volume), volume.size * units.Gi)

    def copy_volume_to_image(self, context, volume, image_service, image_meta):
        image_utils.upload_volume(context, image_service, image_meta, self.path(volume), volume_format="raw",
                                  run_as_root=False)

    # Targets
    def _iqn(self, volume):
        return "iqn.2010-10.org.openstack:" + volume.name

    def _make_unit(self, number, volume, again=False):
        if again:
            tgtadm("delete", "logicalunit", tid=number, lun=1)
        tgtadm("new", "logicalunit", tid=number, lun=1, backing_store=self.path(volume), bstype="aio", blocksize=512)
        tgtadm("update", "logicalunit", tid=number, lun=1,
               params=f"vendor_id=KUMOI,product_id=VOLUME,scsi_sn={volume.id[:8]},thin_provisioning=1")

    @lockutils.synchronized("kumoi-cloud-tgt")
    def _export(self, volume, user, password):
        iqn = self._iqn(volume)
        number = target_id(iqn)
        if number is None:
            used = [int(one) for one in re.findall(r"^Target (\d+):", tgtadm("show", "target"), re.M)]
            number = max(used, default=0) + 1
            tgtadm("new", "target", tid=number, targetname=iqn)
            if user not in tgtadm("show", "account").split():
                tgtadm("new", "account", user=user, password=password)
            tgtadm("bind", "account", tid=number, user=user)
            self._make_unit(number, volume)
            tgtadm("bind", "target", tid=number, initiator_address="ALL")
        place = f"{self.configuration.target_ip_address}:{self.configuration.target_port},{number} {iqn} 1"
        return {"provider_location": place, "provider_auth": f"CHAP {user} {password}"}

    def create_export(self, context, volume, connector):
        if volume.provider_auth:
            return self._export(volume, *volume.provider_auth.split()[1:])
        return self._export(volume, secrets.token_hex(8), secrets.token_hex(7))

    def ensure_export(self, context, volume):
        if volume.provider_auth:
            return self._export(volume, *volume.provider_auth.split()[1:])
        return None

    @lockutils.synchronized("kumoi-cloud-tgt")
    def remove_export(self, context, volume):
        number = target_id(self._iqn(volume))
        if number is not None:
            tgtadm("delete", "target", "--force", tid=number)
        if volume.provider_auth:
            user = volume.provider_auth.split()[1]
            if user in tgtadm("show", "account").split():
                tgtadm("delete", "account", user=user)

    def initialize_connection(self, volume, connector, **named):
        method, user, password = volume.provider_auth.split()
        return {"driver_volume_type": "iscsi", "data": {
            "target_discovered": False, "target_iqn": self._iqn(volume), "target_lun": 1, "volume_id": volume.id,
            "target_portal": f"{self.configuration.target_ip_address}:{self.configuration.target_port}",
            "auth_method": method, "auth_username": user, "auth_password": password, "discard": False}}

    def terminate_connection(self, volume, connector, **named):
        """Sessions end at the initiator. True: the volume is attached elsewhere too, as one of a server that moves while it
        runs is, and its target must stay; else it goes with remove_export."""
        return len(volume.volume_attachment) > 1

    def _update_volume_stats(self):
        space = shutil.disk_usage(self.folder)
        name = self.configuration.safe_get("volume_backend_name")
        self._stats = {
            "volume_backend_name": name, "vendor_name": "kumoi", "driver_version": self.VERSION,
            "storage_protocol": "iSCSI", "multiattach": True, "online_extend_support": True, "pools": [{
                "pool_name": name, "total_capacity_gb": space.total / units.Gi, "free_capacity_gb": space.free / units.Gi,
                "reserved_percentage": 0, "multiattach": True, "QoS_support": False, "thin_provisioning_support": True,
                "thick_provisioning_support": False, "max_over_subscription_ratio": 20.0,
                "provisioned_capacity_gb": 0, "allocated_capacity_gb": 0}]}
