// Which services share anything, and so must be simulated by one engine.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "tables.hpp"

namespace dcsim {

// Rows of a slice by the part that gets them.
struct Places {
    std::size_t count;
    std::vector<std::vector<std::size_t>> rows;
};

// Services are of one component if they share a pool or a channel, or if a request of the one waits for one
// of the other. A component is called by its lowest service.
class Components {
  public:
    Components(const Tables& tables, i64 threads) : parent_(tables.services.size() + tables.pools.size() + tables.channels.size()) {
        services_ = tables.services.size();
        std::iota(parent_.begin(), parent_.end(), std::size_t{0});
        const bool hands_over = !tables.requests.handover.empty();
        const std::vector<bool> brings = tables.services_that_bring();
        for (const ReplicaRow& r : tables.replicas) {
            service_of_replica_.push_back(static_cast<std::size_t>(r.service));
            for (const i64 pool : {r.hbm, r.dram, r.home, r.store}) unite(r.service, pool_row(pool));
            for (const i64 path : {r.load, r.onboard, r.offload, r.spill, r.fetch}) unite_path(tables, r.service, path);
            if (brings[static_cast<std::size_t>(r.service)]) {
                unite(r.service, pool_row(r.library));
                unite_path(tables, r.service, r.bring);
            }
            if (!hands_over) continue;
            for (const i64 path : {r.near_out, r.near_in, r.far_out, r.far_in}) unite_path(tables, r.service, path);
        }
        for (const Class& c : tables.classes) service_of_class_.push_back(c.service);
        const Requests& q = tables.requests;
        if (!q.after_start.empty())
            for (std::size_t i = 0; i < q.arrival.size(); ++i)
                for (i64 k = q.after_start[i]; k < q.after_start[i + 1]; ++k)
                    unite(service(q, static_cast<std::size_t>(q.after[static_cast<std::size_t>(k)])), service(q, i));
        share_out(q, static_cast<std::size_t>(std::max<i64>(1, threads)));
    }

    std::size_t parts() const { return parts_; }
    std::size_t part_of_replica(std::size_t r) const { return r < service_of_replica_.size() ? part_[find(service_of_replica_[r])] : 0; }
    std::size_t part_of_pool(i64 pool) const {
        const std::size_t row = static_cast<std::size_t>(pool_row(pool));
        return pool >= 0 && row < parent_.size() ? part_[find(row)] : 0;
    }
    // The component of a pool or a replica.
    std::size_t of(bool pool, i64 row) const {
        return find(pool ? static_cast<std::size_t>(pool_row(row)) : service_of_replica_[static_cast<std::size_t>(row)]);
    }

    Places places(const Requests& q) const {
        Places out{q.arrival.size(), std::vector<std::vector<std::size_t>>(parts_)};
        for (std::size_t i = 0; i < q.arrival.size(); ++i) out.rows[part_[find(static_cast<std::size_t>(service(q, i)))]].push_back(i);
        return out;
    }

    // The same rows, but of what other parts have nothing that runs or is held; `rows`: of the requests.
    Tables tables_of(const Tables& all, std::size_t part) const {
        Tables out = all;
        for (std::size_t r = 0; r < out.replicas.size(); ++r)
            if (part_of_replica(r) != part) out.replicas[r].start = kDown;
        for (std::size_t s = 0; s < out.services.size(); ++s)
            if (part_[find(s)] != part) out.services[s].checkpoint = out.services[s].library = 0;
        out.requests = some(all.requests, places(all.requests).rows[part]);
        return out;
    }

    static Requests some(const Requests& all, const std::vector<std::size_t>& rows) {
        Requests out;
        for (const auto& [name, column] : kRequestColumns) {
            std::vector<i64> values;
            values.reserve(rows.size());
            for (const std::size_t row : rows)
                values.push_back((all.*column)[row]);
            out.*column = std::move(values);
        }
        for (const auto column : {&Requests::reads, &Requests::leaves, &Requests::delay, &Requests::fed})
            if (!(all.*column).empty())
                for (const std::size_t row : rows) (out.*column).push_back((all.*column)[row]);
        if (all.after_start.empty()) return out;
        std::vector<i64> place(all.arrival.size(), -1);
        for (std::size_t i = 0; i < rows.size(); ++i) place[rows[i]] = static_cast<i64>(i);
        out.after_start.push_back(0);
        for (const std::size_t row : rows) {
            for (auto k = static_cast<std::size_t>(all.after_start[row]); k < static_cast<std::size_t>(all.after_start[row + 1]); ++k) {
                out.after.push_back(place[static_cast<std::size_t>(all.after[k])]);
                if (all.handover.empty()) continue;
                out.handover.push_back(all.handover[k]);
                out.ahead.push_back(all.ahead[k]);
            }
            out.after_start.push_back(static_cast<i64>(out.after.size()));
        }
        return out;
    }

  private:
    i64 pool_row(i64 pool) const { return static_cast<i64>(services_) + pool; }
    std::size_t find(std::size_t row) const {
        while (parent_[row] != row) row = parent_[row];
        return row;
    }
    // The lower becomes the name of both: of a component its lowest service.
    void unite(i64 one, i64 other) {
        const std::size_t a = find(static_cast<std::size_t>(one)), b = find(static_cast<std::size_t>(other));
        parent_[std::max(a, b)] = std::min(a, b);
    }
    void unite_path(const Tables& tables, i64 service, i64 path) {
        for (const i64 c : tables.path(path)) unite(service, pool_row(static_cast<i64>(tables.pools.size())) + c);
    }
    i64 service(const Requests& q, std::size_t row) const { return service_of_class_[static_cast<std::size_t>(q.klass[row])]; }

    // Components to parts, the largest (by the requests at hand) first, to the part that has least.
    void share_out(const Requests& q, std::size_t most) {
        std::vector<std::pair<i64, std::size_t>> sizes;  // less than 0, so that the largest is first
        std::vector<i64> load(services_, 0);
        for (std::size_t i = 0; i < q.arrival.size(); ++i) ++load[find(static_cast<std::size_t>(service(q, i)))];
        for (std::size_t s = 0; s < services_; ++s)
            if (find(s) == s) sizes.push_back({-load[s], s});
        std::sort(sizes.begin(), sizes.end());
        parts_ = std::max<std::size_t>(1, std::min(most, sizes.size()));
        part_.assign(parent_.size(), 0);
        std::vector<i64> has(parts_, 0);
        for (const auto& [size, s] : sizes) {
            const auto part = static_cast<std::size_t>(std::min_element(has.begin(), has.end()) - has.begin());
            part_[s] = part;
            has[part] += 1 - size;
        }
    }

    std::size_t services_ = 0, parts_ = 1;
    std::vector<std::size_t> parent_;  // of services, pools and channels
    std::vector<std::size_t> service_of_replica_, part_;
    std::vector<i64> service_of_class_;
};

}  // namespace dcsim
