// LiveMoveOptions from the configuration.
#include "compute/driver/disk_transfer.h"
#include "compute/driver/live_link_options.h"
#include "compute/driver/live_moves.h"

namespace kumoi::compute {

void add_live_link_options(OptionTable& table) {
    table.add({"kumoi",
               "migration_encryption",
               OptionType::String,
               "psk",
               "How the connections of live migrations to this host are encrypted. psk: TLS 1.3 "
               "under a key made for the migration. certificates: mutual TLS 1.3 with the files "
               "below. none: authenticated only, for a network that nobody else sees.",
               {},
               {},
               {"psk", "certificates", "none"}});
    table.add({"kumoi", "migration_certificate", OptionType::Path, "",
               "PEM file of this host's certificate with its chain; read for each migration."});
    table.add({"kumoi", "migration_key", OptionType::Path, "",
               "PEM file of the key of that certificate."});
    table.add({"kumoi", "migration_ca", OptionType::Path, "",
               "PEM file of the authority that has signed the certificates of all hosts."});
    table.add({"kumoi", "migration_hosts", OptionType::List, "",
               "Names or addresses of which the other host's certificate must have one as subject "
               "alternative name. Empty: the address that is connected to or from."});
    table.add(
        {"kumoi",
         "migration_compress",
         OptionType::String,
         "none",
         "How guests that leave this host are compressed, each while it pays. zstd: memory is "
         "packed. delta: of memory that is sent again only what has changed. delta+zstd: "
         "both.",
         {},
         {},
         {"none", "zstd", "delta", "delta+zstd"}});
    table.add({"kumoi", "relay_path", OptionType::Path, "",
               "The kumoi-relay program, which encrypts live migrations where the kernel does not. "
               "Empty: beside this program, else in PATH."});
}

Result<LiveMoveOptions> LiveMoveOptions::from_config(const Config& config,
                                                     const std::string& instances_path) {
    const DiskTransferOptions transfer =
        TRY(DiskTransferOptions::from_config(config, instances_path));
    LiveMoveOptions options;
    options.instances_path = instances_path;
    options.address = config.string("libvirt", "live_migration_inbound_addr");
    if (options.address.empty()) {
        options.address = transfer.address;
    }
    options.port_first = transfer.port_first;
    options.port_last = transfer.port_last;
    const std::string encryption = config.string("kumoi", "migration_encryption");
    options.encryption = encryption == "none"           ? link::Encryption::None
                         : encryption == "certificates" ? link::Encryption::Certificates
                                                        : link::Encryption::Psk;
    options.compress = config.string("kumoi", "migration_compress");
    options.relay.program = config.string("kumoi", "relay_path");
    options.relay.files.certificate = config.string("kumoi", "migration_certificate");
    options.relay.files.key = config.string("kumoi", "migration_key");
    options.relay.files.authority = config.string("kumoi", "migration_ca");
    options.relay.files.hosts = config.list("kumoi", "migration_hosts");
    const link::TlsFiles& files = options.relay.files;
    if (options.encryption == link::Encryption::Certificates &&
        (files.certificate.empty() || files.key.empty() || files.authority.empty())) {
        return Error::invalid(
                   "[kumoi] migration_encryption is certificates, and not all of "
                   "migration_certificate, migration_key and migration_ca are set")
            .with_hint("Set them, or use psk, which needs no files.");
    }
    return options;
}

}  // namespace kumoi::compute
