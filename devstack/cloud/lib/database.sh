# shellcheck shell=bash disable=SC2154,SC2086  # names come from settings.sh, and they are single words
# The data bases: made and migrated once per set of package versions, then taken from a packed copy.

golden_file() {
    local key
    key=$({
        dpkg-query -W -f='${Package} ${Version}\n' mariadb-server keystone glance-api placement-api nova-common \
            neutron-common cinder-common
        cat "$CLOUD_ROOT/lib/database.sh" "$CLOUD_ROOT/lib/catalogue.py"
        echo "$STATE $CONTROL_IP $PASSWORD $REGION" # which are recorded in the data bases
    } | md5sum | cut -c1-12)
    echo "$CACHE/golden-$key.tar.zst"
}

# databases_up: MariaDB runs and holds migrated data bases; Keystone has users and the catalogue.
databases_up() {
    local golden
    golden=$(golden_file)
    if [ ! -e "$STATE/db/complete" ] && [ -e "$golden" ]; then
        rm -rf "$STATE/db" "$STATE/keystone"
        tar -C "$STATE" --zstd -xf "$golden"
    fi
    if [ -e "$STATE/db/complete" ]; then
        start_mariadb
        start_keystone
        wait_for Keystone 300 answers $KEYSTONE_PORT
        phase "data bases and Keystone"
        return
    fi
    make_databases
    stop keystone
    stop mariadb 30
    touch "$STATE/db/complete"
    mkdir -p "$CACHE"
    rm -f "$CACHE"/golden-*.tar.zst
    tar -C "$STATE" -I 'zstd -1' -cf "$golden.part" db keystone && mv "$golden.part" "$golden"
    phase "copy of the data bases for the next start"
    databases_up
}

make_databases() {
    local name
    stop keystone # of a first start that did not get to its end
    stop mariadb 30
    rm -rf "$STATE/db" "$STATE/keystone"
    mkdir -p "$STATE/db" "$STATE"/keystone/{fernet,credential}
    chmod 700 "$STATE"/keystone/*
    mysql_install_db --no-defaults --user=root --datadir="$STATE/db" --auth-root-authentication-method=normal \
        --skip-test-db >"$LOG/mysql-install.out" 2>&1
    start_mariadb
    for name in keystone glance placement nova_api nova_cell0 nova neutron cinder; do
        sql "CREATE DATABASE IF NOT EXISTS $name"
    done
    phase "MariaDB"
    migrate_keystone >"$LOG/migrate-keystone.out" 2>&1 || die "Keystone's data base: see $LOG/migrate-keystone.out"
    start_keystone
    phase "Keystone's tables"
    migrate_others >"$LOG/migrate.out" 2>&1 || die "a data base could not be migrated: see $LOG/migrate.out"
    phase "the other services' tables"
    wait_for Keystone 300 answers $KEYSTONE_PORT
    /usr/bin/python3 "$CLOUD_ROOT/lib/catalogue.py" $CONTROL_IP $PASSWORD $REGION
    phase "users and catalogue"
}

migrate_keystone() {
    local manage=(keystone-manage --config-file "$ETC/keystone/keystone.conf")
    "${manage[@]}" db_sync &&
        "${manage[@]}" fernet_setup --keystone-user root --keystone-group root &&
        "${manage[@]}" credential_setup --keystone-user root --keystone-group root &&
        "${manage[@]}" bootstrap --bootstrap-password $PASSWORD --bootstrap-region-id $REGION \
            --bootstrap-public-url "http://$CONTROL_IP:$KEYSTONE_PORT/v3" \
            --bootstrap-internal-url "http://$CONTROL_IP:$KEYSTONE_PORT/v3" \
            --bootstrap-admin-url "http://$CONTROL_IP:$KEYSTONE_PORT/v3"
}

migrate_others() {
    local nova=(nova-manage --config-file "$ETC/nova/nova.conf")
    glance-manage --config-file "$ETC/glance/glance-api.conf" db_sync &&
        OS_PLACEMENT_CONFIG_DIR=$ETC/placement placement-manage --config-file "$ETC/placement/placement.conf" db sync &&
        neutron-db-manage --config-file "$ETC/neutron/neutron.conf" --config-file "$ETC/neutron/ml2.ini" upgrade heads &&
        cinder-manage --config-file "$ETC/cinder/cinder.conf" db sync &&
        "${nova[@]}" api_db sync &&
        "${nova[@]}" cell_v2 map_cell0 --database_connection "$(database_url nova_cell0)" &&
        "${nova[@]}" cell_v2 create_cell --name cell1 &&
        "${nova[@]}" db sync
}
