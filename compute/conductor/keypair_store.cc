#include "compute/conductor/keypair_store.h"

namespace kumoi::compute {
namespace {

constexpr char kColumns[] =
    "SELECT id, user_id, name, type, fingerprint, public_key, created_ns FROM keypairs ";

Keypair keypair_from_row(const SqlRow& row) {
    return {row.integer(0), row.text(1), row.text(2),   row.text(3),
            row.text(4),    row.text(5), row.integer(6)};
}

}  // namespace

Result<Keypair> KeypairStore::create(Keypair keypair, int64_t count_max) {
    keypair.created_ns = clock_.wall_ns();
    return database_.write([&](SqlSession& sql) -> Result<Keypair> {
        const auto counted =
            TRY(sql.query_one("SELECT COUNT(*) FROM keypairs WHERE user_id = ?", keypair.user_id));
        const int64_t count = counted ? counted->integer(0) : 0;
        if (count_max >= 0 && count >= count_max) {
            return Error{
                ErrorCode::Exhausted, "Quota exceeded, too many key pairs.",
                fmt::format("The user has {} of {} key pairs; delete one first.", count, count_max),
                "KeypairLimitExceeded"};
        }
        const auto same =
            TRY(sql.query_one("SELECT id FROM keypairs WHERE user_id = ? AND name = ?",
                              keypair.user_id, keypair.name));
        if (same) {
            return Error::conflict("Key pair '{}' already exists.", keypair.name)
                .with_fault("KeyPairExists");
        }
        TRY(sql.run(
            "INSERT INTO keypairs(user_id, name, type, fingerprint, public_key, created_ns) "
            "VALUES(?, ?, ?, ?, ?, ?)",
            keypair.user_id, keypair.name, keypair.type, keypair.fingerprint, keypair.public_key,
            keypair.created_ns));
        keypair.id = sql.last_insert_id();
        return keypair;
    });
}

Result<Keypair> KeypairStore::get(const std::string& user_id, const std::string& name) const {
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one(std::string(kColumns) + "WHERE user_id = ? AND name = ?", user_id,
                             name);
    }));
    if (!row) {
        return Error::not_found("Keypair {} not found for user {}", name, user_id)
            .with_fault("KeypairNotFound");
    }
    return keypair_from_row(*row);
}

Result<void> KeypairStore::remove(const std::string& user_id, const std::string& name) {
    TRY(get(user_id, name));
    return database_.write([&](SqlSession& sql) -> Result<void> {
        TRY(sql.run("DELETE FROM keypairs WHERE user_id = ? AND name = ?", user_id, name));
        return {};
    });
}

Result<std::vector<Keypair>> KeypairStore::list(const std::string& user_id) const {
    const auto rows = TRY(database_.read([&](SqlSession& sql) {
        return sql.query(std::string(kColumns) + "WHERE user_id = ? ORDER BY name", user_id);
    }));
    std::vector<Keypair> keypairs;
    for (const SqlRow& row : rows) {
        keypairs.push_back(keypair_from_row(row));
    }
    return keypairs;
}

Result<int64_t> KeypairStore::count(const std::string& user_id) const {
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one("SELECT COUNT(*) FROM keypairs WHERE user_id = ?", user_id);
    }));
    return row ? row->integer(0) : 0;
}

}  // namespace kumoi::compute
