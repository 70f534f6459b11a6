// Components, which share nothing, on threads of their own: what comes out is what one engine gives.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "components.hpp"
#include "engine.hpp"

namespace dcsim {

// Each part of a team has all tables, so rows keep their numbers, but only the requests and the replicas of
// some components: others are down there for ever, and hold nothing. So tables over time are sums. Only
// the most that a tier holds together is not, and is looked at bin by bin when all parts have come there.
class Team {
  public:
    // `threads`: parts at the most; 0: one, and events of one time as they happened.
    Team(Tables tables, i64 horizon, i64 bin, bool lifted, i64 threads)
        : together_({bin, horizon}, 0, 0), top_(tables.replicas.size(), together_), levels_(together_),
          components_(tables, threads), ordered_(threads > 0) {
        const auto count = components_.parts();
        if (count == 1) {
            parts_.push_back(std::make_unique<Engine>(std::move(tables), horizon, bin, lifted));
            return;
        }
        for (std::size_t p = 0; p < count; ++p)
            parts_.push_back(std::make_unique<Engine>(components_.tables_of(tables, p), horizon, bin, lifted, true));
        known(tables.requests);
    }

    i64 now() const { return parts_[0]->now(); }
    i64 arrived() const { return sum([](const Engine& e) { return e.arrived(); }); }
    i64 completed() const { return sum([](const Engine& e) { return e.completed(); }); }

    void decide_by(std::size_t service, const RouteFunction& function) {
        for (const auto& part : parts_) part->decide_by(service, function);
    }

    void run_until(i64 t) {
        if (alone()) return parts_[0]->run_until(t);
        if (t < now() || t > together_.bins().horizon) return parts_[0]->run_until(t);  // refused
        do {
            if (t > now()) {
                absorb();
                top_.come_to(now() + 1, [this](std::size_t r) { return of_replica(r).holding(r); });
            }
            const i64 to = std::min(t, together_.bins().end(together_.bins().of(now())));
            each([to](Engine& e) { e.run_until(to); });
        } while (now() < t);
    }
    void finish() {
        if (alone()) return parts_[0]->finish();
        run_until(together_.bins().horizon);
        each([](Engine& e) { e.finish(); });
        absorb();  // all bins but the last have been closed
        top_.finish(now());
        levels_.finish(now());
        for (std::size_t p = 1; p < parts_.size(); ++p) parts_[0]->timeline().add(parts_[p]->timeline());
        parts_[0]->timeline().add(together_);
    }

    Engine& of_replica(std::size_t r) { return *parts_[components_.part_of_replica(r)]; }
    Engine& of_pool(i64 pool) { return *parts_[components_.part_of_pool(pool)]; }
    Engine& first() { return *parts_[0]; }

    void give(const Requests& more) {
        if (alone()) return parts_[0]->give(more);
        parts_[0]->check(more, latest_, known_);
        known(more);
        for (std::size_t p = 0; p < parts_.size(); ++p) parts_[p]->give(Components::some(more, places_.back().rows[p]));
    }
    template <class Put>
    bool take(Put&& put) {
        if (alone()) return parts_[0]->take(put);
        if (places_.empty() || !std::all_of(parts_.begin(), parts_.end(), [](auto& part) { return part->over(); })) return false;
        merge(1, put, [](Engine& e, auto&& columns) { e.take(columns); });
        return true;
    }
    template <class Put>
    void take_rest(Put&& put) {
        if (alone()) return parts_[0]->take_rest(put);
        merge(places_.size(), put, [](Engine& e, auto&& columns) { e.take_rest(columns); });
    }

    // As the engine's. Who hands over is known beforehand, in one slice.
    std::optional<Engine::Stuck> stuck() const {
        if (alone()) return parts_[0]->stuck();
        std::optional<Engine::Stuck> first;
        for (std::size_t p = 0; p < parts_.size(); ++p) {
            auto found = parts_[p]->stuck();
            if (!found || (first && first->replica < found->replica)) continue;
            for (i64* row : {&found->request, &found->giver, &found->taker})
                *row = static_cast<i64>(places_.front().rows[p][static_cast<std::size_t>(*row)]);
            first = found;
        }
        return first;
    }

    // Those of one time by component, of a component as they happened.
    std::vector<ControlEvent> events() const {
        std::vector<ControlEvent> all;
        for (const auto& part : parts_) all.insert(all.end(), part->events().begin(), part->events().end());
        if (!ordered_) return all;
        std::stable_sort(all.begin(), all.end(), [this](const ControlEvent& a, const ControlEvent& b) {
            return std::pair(a.time, components_.of(a.kind == kCapacity, a.subject)) < std::pair(b.time, components_.of(b.kind == kCapacity, b.subject));
        });
        return all;
    }
    Stats stats() const {
        Stats all;
        for (const auto& part : parts_) {
            const Stats& s = part->stats();
            all = {all.events + s.events, all.boundaries + s.boundaries, all.steps + s.steps, all.iterations + s.iterations};
        }
        return all;
    }
    std::vector<i64> reused() { return added([](Engine& e) { return std::move(e.useful().reused()); }); }
    std::vector<i64> useful() { return added([](Engine& e) { return e.useful().means(); }); }

  private:
    template <class T>
    using Columns = std::map<std::string, std::vector<T>>;

    void known(const Requests& more) {
        places_.push_back(components_.places(more));
        known_ += more.arrival.size();
        if (!more.arrival.empty()) latest_ = more.arrival[more.arrival.size() - 1];
    }

    bool alone() const { return parts_.size() == 1; }

    template <class Get>
    i64 sum(Get&& get) const {
        return std::accumulate(parts_.begin(), parts_.end(), i64{0}, [&](i64 n, const auto& part) { return n + get(*part); });
    }
    template <class Get>
    std::vector<i64> added(Get&& get) {
        std::vector<i64> all = get(*parts_[0]);
        for (std::size_t p = 1; p < parts_.size(); ++p) {
            const std::vector<i64> more = get(*parts_[p]);
            std::transform(all.begin(), all.end(), more.begin(), all.begin(), std::plus<>());
        }
        return all;
    }

    // The first part goes on here. Of several errors that of the first part is told.
    template <class Act>
    void each(Act&& act) {
        std::vector<std::exception_ptr> errors(parts_.size());
        const auto go = [&](std::size_t p) {
            try {
                act(*parts_[p]);
            } catch (...) {
                errors[p] = std::current_exception();
            }
        };
        std::vector<std::thread> threads;
        for (std::size_t p = 1; p < parts_.size(); ++p) threads.emplace_back(go, p);
        go(0);
        for (std::thread& thread : threads) thread.join();
        for (const std::exception_ptr& error : errors)
            if (error) std::rethrow_exception(error);
    }

    // All parts have come to now, and all that happens then has happened.
    void absorb() {
        for (std::size_t p = 0; p < parts_.size(); ++p) {
            top_.absorb(parts_[p]->tier_top(), [&](std::size_t r) { return components_.part_of_replica(r) == p; });
            levels_.absorb(parts_[p]->pools().changes());
        }
        levels_.settle();
    }

    // The columns of the oldest slices of all parts, each row in its place.
    template <class Put, class Take>
    void merge(std::size_t slices, Put&& put, Take&& take) {
        std::tuple<Columns<i64>, Columns<std::int32_t>, Columns<std::int8_t>> all;
        std::size_t rows = 0;
        std::vector<std::vector<std::size_t>> rows_of(parts_.size());
        for (std::size_t s = 0; s < slices; ++s) {
            const Places& places = places_.front();
            for (std::size_t p = 0; p < parts_.size(); ++p)
                for (const std::size_t row : places.rows[p]) rows_of[p].push_back(rows + row);
            rows += places.count;
            places_.pop_front();
        }
        for (std::size_t p = 0; p < parts_.size(); ++p)
            take(*parts_[p], [&]<class T>(const char* name, std::vector<T>&& values) {
                std::vector<T>& column = std::get<Columns<T>>(all)[name];
                column.resize(rows, T{-1});  // of a part to which nothing is handed over
                for (std::size_t i = 0; i < values.size(); ++i) column[rows_of[p][i]] = values[i];
            });
        std::apply([&](auto&... columns) {
            const auto put_all = [&](auto& some) {
                for (auto& [name, column] : some) put(name.c_str(), std::move(column));
            };
            (put_all(columns), ...);
        }, all);
    }

    Timeline together_;  // of all parts: the tops of tiers
    TierTop top_;
    TierLevels levels_;
    Components components_;
    bool ordered_;
    std::vector<std::unique_ptr<Engine>> parts_;
    i64 latest_ = 0;          // arrival of the last request, and how many came
    std::size_t known_ = 0;
    std::deque<Places> places_;  // of slices that have not been taken
};

}  // namespace dcsim
