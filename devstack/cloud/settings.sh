# shellcheck shell=bash disable=SC2034  # read by the scripts that source this
# Every name and number of the test cloud. Sourced, never run. What may be overridden comes from the
# environment: `KUMOI_CLOUD_... ./up.sh`.

CLOUD_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# All state: data bases, volumes, logs, configuration, pid files. A short path: sockets live in it.
STATE=${KUMOI_CLOUD_STATE:-/var/lib/kumoi-cloud}
ETC=$STATE/etc LOG=$STATE/log RUN=$STATE/run
# What a second start on this machine reuses (freshly migrated data bases).
CACHE=${KUMOI_CACHE:-/var/cache/kumoi}/cloud

# The management network: one bridge in the namespace of the control plane.
CONTROL_NS=kumoi-control
CONTROL_IP=10.250.0.1
OUTSIDE_IP=10.250.0.254 # the end of it that this machine's own namespace has
MANAGEMENT_PREFIX=24
NODES=${KUMOI_CLOUD_NODES:-kumoi-n1 kumoi-n2}
node_ip() { echo "10.250.0.1${1##*[!0-9]}"; }  # kumoi-n1 is 10.250.0.11
ovs_folder() { echo "$STATE/ovs-$1"; }         # of one host's Open vSwitch, where it has one
proxy_ip() { echo "10.250.0.2${1##*[!0-9]}"; } # what stands before the services for kumoi-n1

KEYSTONE_PORT=5000 GLANCE_PORT=9292 PLACEMENT_PORT=8778 NOVA_PORT=8774 NEUTRON_PORT=9696
CINDER_PORT=8776 RABBIT_PORT=5672 NOVNC_PORT=6080 SERIAL_PORT=6083 METADATA_PORT=8775 ISCSI_PORT=3260 NFS_PORT=2049
REGION=RegionOne
PASSWORD=secret # of admin, demo, and of every service: the network above is not reachable from outside

# What runs on the nodes: python (Debian's nova-compute and its fake driver), kumoi, none.
COMPUTE=${KUMOI_CLOUD_COMPUTE:-python}
PYTHON_DRIVER=${KUMOI_CLOUD_PYTHON_DRIVER:-fake.FakeDriver}
KUMOI_BUILD=${KUMOI_BUILD:-$(cd "$CLOUD_ROOT/../.." && pwd)/build/release}
# What a node's guests run on when COMPUTE is kumoi: kumoi (kumoi-vmm), or simulated where there is no KVM.
KUMOI_DRIVER=${KUMOI_CLOUD_KUMOI_DRIVER:-$([ -e /dev/kvm ] && echo kumoi || echo simulated)}
NOVA_CONF_EXTRA=${KUMOI_CLOUD_NOVA_CONF:-} # a file; its text ends up in every node's nova.conf

# Parts that can be left out (0) to save memory.
WITH_CINDER=${KUMOI_CLOUD_CINDER:-1}
WITH_NFS=${KUMOI_CLOUD_NFS:-$WITH_CINDER}
WITH_CEPH=${KUMOI_CLOUD_CEPH:-0} # 1: a Ceph of one monitor and one OSD, and volumes of type rbd on it
WITH_AGENTS=${KUMOI_CLOUD_AGENTS:-1} # 0: ports are bound by drivers/kumoi_cloud_ml2.py and never wired
NETWORK=${KUMOI_CLOUD_NETWORK:-bridge} # what Neutron's agents wire: Linux bridges, or Open vSwitch (ovs)
WITH_L3=${KUMOI_CLOUD_L3:-0} # 1: Neutron's L3 agent; floating addresses reach guests, and one image has an SSH server
WITH_PROXY=${KUMOI_CLOUD_PROXY:-0}   # 1: nodes reach the services through faults/proxy.py
WITH_NOVNC=${KUMOI_CLOUD_NOVNC:-1} # the proxies of displays and of serial lines
WORKERS=${KUMOI_CLOUD_WORKERS:-1} # processes of each REST service, of conductor and of scheduler
NOTIFICATIONS=${KUMOI_CLOUD_NOTIFICATIONS:-noop}
DEBUG=${KUMOI_CLOUD_DEBUG:-false}
PATIENCE=${KUMOI_TEST_PATIENCE:-1} # multiplies every deadline
PATIENCE=${PATIENCE%%.*}           # the shell counts in whole numbers
MEMORY_NEEDED=5000 DISK_NEEDED=4000 # MiB; all services, two nodes and a few guests

PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
MYSQL_SOCKET=$RUN/mysqld.sock
database_url() { echo "mysql+pymysql://root@localhost/$1?unix_socket=$MYSQL_SOCKET&charset=utf8"; }
