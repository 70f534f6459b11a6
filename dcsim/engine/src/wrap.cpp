// The one place where the engine meets Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <initializer_list>
#include <memory>

#include "cache.hpp"
#include "distances.hpp"
#include "team.hpp"
#include "floor.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using dcsim::i64;

namespace {

using Array1 = nb::ndarray<const i64, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Array2 = nb::ndarray<const i64, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <class Array>
Array column(const nb::dict& tables, const char* name) {
    if (!tables.contains(name)) throw std::invalid_argument(std::string("no table ") + name);
    Array out;
    if (!nb::try_cast<Array>(tables[name], out, false))
        throw std::invalid_argument(std::string(name) + ": a C-contiguous int64 array of " +
                                    (std::is_same_v<Array, Array1> ? "one dimension" : "two dimensions"));
    return out;
}

template <class Row>
std::vector<Row> rows(const nb::dict& tables, const char* name) {
    const Array2 array = column<Array2>(tables, name);
    if (array.shape(1) != dcsim::kColumns<Row>)
        throw std::invalid_argument(std::string(name) + ": " + std::to_string(dcsim::kColumns<Row>) + " columns: " + Row::columns);
    std::vector<Row> out(array.shape(0));
    if (!out.empty()) std::memcpy(static_cast<void*>(out.data()), array.data(), out.size() * sizeof(Row));
    return out;
}

std::vector<i64> values(const nb::dict& tables, const char* name) {
    const Array1 array = column<Array1>(tables, name);
    return {array.data(), array.data() + array.shape(0)};
}

template <class T>
nb::object numpy(std::vector<T>&& data, std::initializer_list<std::size_t> shape) {
    auto owned = std::make_unique<std::vector<T>>(std::move(data));
    T* pointer = owned->data();
    nb::capsule owner(owned.release(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T>(pointer, shape.size(), shape.begin(), owner));
}

// Takes the columns of requests.
auto putting(nb::dict& out) {
    return [&out](const char* name, auto&& values) {
        const std::size_t n = values.size();
        out[name] = numpy(std::move(values), {n});
    };
}

// One thread at a time: run_until lets go of the interpreter's lock, so a second thread could come in.
class Busy {
  public:
    explicit Busy(std::atomic_flag& flag) : flag_(flag) {
        if (flag_.test_and_set()) throw std::runtime_error("the engine is running in another thread");
    }
    ~Busy() { flag_.clear(); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

  private:
    std::atomic_flag& flag_;
};

// A Python function as a router. An error in it, or an answer that is none, leaves the engine in the
// middle of an event: `broken`.
dcsim::RouteFunction route_function(nb::callable function, std::atomic<bool>& broken) {
    return [function = std::move(function), &broken](const dcsim::Choice& c) -> i64 {
        const nb::gil_scoped_acquire acquire;
        try {
            nb::list options;
            for (const dcsim::Option& o : c.options) options.append(nb::make_tuple(o.replica, o.requests, o.asked, o.saved));
            const nb::object answer = function(c.now, c.klass, c.prompt, c.output, c.before, options);
            i64 row = -1;
            if (!nb::isinstance<nb::int_>(answer) || !nb::try_cast(answer, row) ||
                std::none_of(c.options.begin(), c.options.end(), [row](const dcsim::Option& o) { return o.replica == row; }))
                throw std::invalid_argument("a router gave " + std::string(nb::repr(answer).c_str()) + ", which is none of the replicas that it could give");
            return row;
        } catch (...) {
            broken = true;
            throw;
        }
    };
}

// Owns all that it is given: what a caller does to an array afterwards changes nothing here.
class PyEngine {
  public:
    PyEngine(const nb::dict& tables, i64 horizon, i64 bin, bool lifted, i64 threads, const nb::dict& routers) {
        if (threads < 0) throw std::invalid_argument("threads: 0 or more");
        if (horizon < 1 || bin < 1) throw std::invalid_argument("horizon and bin are at least 1 ns");
        dcsim::Tables t;
        t.pools = rows<dcsim::Pool>(tables, "pools");
        t.channels = rows<dcsim::Channel>(tables, "channels");
        t.path_start = values(tables, "path_start");
        t.path_channels = values(tables, "path_channels");
        t.phases = rows<dcsim::Phase>(tables, "phases");
        t.segments = rows<dcsim::SegmentRow>(tables, "segments");
        t.works = rows<dcsim::Work>(tables, "works");
        t.services = rows<dcsim::Service>(tables, "services");
        t.classes = rows<dcsim::Class>(tables, "classes");
        t.replicas = rows<dcsim::ReplicaRow>(tables, "replicas");
        if (tables.contains("policies"))
            t.policies = rows<dcsim::Policy>(tables, "policies");
        else
            t.policies.resize(t.services.size());
        read(tables, t.requests);
        if (tables.contains("nodes") || tables.contains("reads") || tables.contains("leaves")) {
            t.nodes = rows<dcsim::Node>(tables, "nodes");
            t.requests.reads = values(tables, "reads");
            t.requests.leaves = values(tables, "leaves");
            if (tables.contains("brought")) t.brought = values(tables, "brought");
            if (tables.contains("gaps")) t.gaps = values(tables, "gaps");
        }
        if (tables.contains("after") || tables.contains("after_start") || tables.contains("delay")) {
            t.requests.delay = values(tables, "delay");
            t.requests.after_start = values(tables, "after_start");
            t.requests.after = values(tables, "after");
        }
        if (tables.contains("handover") || tables.contains("ahead") || tables.contains("fed")) {
            t.requests.handover = values(tables, "handover");
            t.requests.ahead = values(tables, "ahead");
            t.requests.fed = values(tables, "fed");
        }
        t.check();
        const auto services = static_cast<i64>(t.services.size());
        engine_ = std::make_unique<dcsim::Team>(std::move(t), horizon, bin, lifted, threads);
        for (const auto& [service, function] : routers) {
            const i64 row = nb::cast<i64>(service);
            if (row < 0 || row >= services) throw std::invalid_argument("routers: no service " + std::to_string(row));
            engine_->decide_by(static_cast<std::size_t>(row), route_function(nb::cast<nb::callable>(function), broken_));
        }
    }

    // What `act` makes of the engine, with no other thread in it.
    template <class Act>
    auto with(Act act) {
        const Busy busy(busy_);
        if (!engine_) throw std::runtime_error("the run is finished");
        try {
            return act(*engine_);
        } catch (...) {
            if (broken_) engine_.reset();
            throw;
        }
    }

    void run_until(i64 t) {
        with([t](dcsim::Team& e) {
            nb::gil_scoped_release release;
            e.run_until(t);
        });
    }

    void give(const nb::dict& requests) {
        dcsim::Requests more;
        read(requests, more);
        with([&more](dcsim::Team& e) { e.give(more); });
    }

    nb::object take() {
        return with([](dcsim::Team& e) -> nb::object {
            nb::dict out;
            if (!e.take(putting(out))) return nb::none();
            return out;
        });
    }

    nb::dict finish() {
        return with([this](dcsim::Team& e) {
            {
                nb::gil_scoped_release release;
                e.finish();
            }
            return outputs();
        });
    }

  private:
    static void read(const nb::dict& from, dcsim::Requests& requests) {
        for (const auto& [name, column] : dcsim::kRequestColumns) requests.*column = values(from, name);
    }
    nb::dict outputs() {
        dcsim::Timeline& timeline = engine_->first().timeline();
        const std::size_t bins = timeline.bins().count();
        const std::size_t accounts = timeline.accounts().size();
        nb::dict out;
        engine_->take_rest(putting(out));
        std::vector<i64> rows;
        for (const dcsim::AccountRow& a : timeline.accounts())
            rows.insert(rows.end(), {a.pool, a.category, a.service, a.klass});
        out["accounts"] = numpy(std::move(rows), {accounts, 4});
        const std::size_t pools = timeline.top().size() / bins;
        const std::size_t channels = timeline.moved().size() / bins;
        const std::size_t causes = dcsim::kCauses;
        // Kept bin by bin, given with the bins last.
        out["mean"] = numpy(std::move(timeline.mean()), {bins, accounts}).attr("T");
        out["top"] = numpy(std::move(timeline.top()), {bins, pools}).attr("T");
        out["tier_top"] = numpy(std::move(timeline.tier_top()), {bins, dcsim::kTiers}).attr("T");
        out["flow"] = numpy(std::move(timeline.flow()), {bins, accounts, causes}).attr("transpose")(1, 2, 0);
        out["moved"] = numpy(std::move(timeline.moved()), {bins, channels}).attr("T");
        if (dcsim::Useful& useful = engine_->first().useful(); useful.any()) {
            const std::size_t classes = useful.classes();
            const std::size_t gaps = useful.groups() / classes;
            const auto put = [&](const char* name, std::vector<i64>&& table) {
                out[name] = numpy(std::move(table), {bins, classes, gaps}).attr("transpose")(1, 2, 0);
            };
            put("reused", engine_->reused());
            put("useful", engine_->useful());
        }
        std::vector<i64> events;
        for (const dcsim::ControlEvent& e : engine_->events())
            events.insert(events.end(), {e.time, e.kind, e.subject, e.value});
        const std::size_t happened = events.size() / 4;
        out["events"] = numpy(std::move(events), {happened, 4});
        const dcsim::Stats s = engine_->stats();
        nb::dict stats;
        stats["events"] = s.events;
        stats["boundaries"] = s.boundaries;
        stats["steps"] = s.steps;
        stats["iterations"] = s.iterations;
        out["stats"] = stats;
        engine_.reset();
        return out;
    }

    std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
    std::atomic<bool> broken_ = false;
    std::unique_ptr<dcsim::Team> engine_;
};

std::span<const i64> span(const Array1& array) { return {array.data(), array.size()}; }

template <class Field>
nb::object run_column(const dcsim::Forest& f, Field field) {
    std::vector<i64> out;
    for (const dcsim::Forest::Run& run : f.runs()) out.push_back(run.*field);
    const std::size_t n = out.size();
    return numpy(std::move(out), {n});
}

// A forest never changes, so threads may share it.
nb::object replay(const dcsim::Forest& f, const std::string& policy, i64 capacity) {
    std::vector<i64> out;
    {
        nb::gil_scoped_release release;
        out = dcsim::hits(f, policy, capacity);
    }
    const std::size_t n = out.size();
    return numpy(std::move(out), {n});
}

nb::object lru_hits(const dcsim::Forest& f, const Array1& counted) {
    std::vector<i64> out = dcsim::lru_hits(f, span(counted));
    const std::size_t n = out.size();
    return numpy(std::move(out), {n});
}

nb::dict columns() {
    nb::dict out;
    const auto put = [&](const char* name, const char* names) {
        out[name] = nb::tuple(nb::str(names).attr("split")());
    };
    put("pools", dcsim::Pool::columns);
    put("channels", dcsim::Channel::columns);
    put("phases", dcsim::Phase::columns);
    put("segments", dcsim::SegmentRow::columns);
    put("works", dcsim::Work::columns);
    put("services", dcsim::Service::columns);
    put("classes", dcsim::Class::columns);
    put("replicas", dcsim::ReplicaRow::columns);
    put("nodes", dcsim::Node::columns);
    put("policies", dcsim::Policy::columns);
    return out;
}
template <std::size_t N>
nb::tuple words(const std::array<const char*, N>& names) {
    nb::list out;
    for (const char* name : names) out.append(name);
    return nb::tuple(out);
}

nb::dict build() {
    nb::dict out;
    out["version"] = DCSIM_VERSION;
    out["compiler"] = DCSIM_COMPILER;
    out["flags"] = DCSIM_FLAGS;
    out["standard"] = static_cast<i64>(__cplusplus);
    out["sanitizers"] = DCSIM_SANITIZERS;
    return out;
}

}  // namespace

NB_MODULE(_core, m) {
    nb::set_leak_warnings(true);
    m.def("columns", &columns);
    m.def("evictions", [] { return words(dcsim::kEvictions); });
    m.def("routers", [] { return words(dcsim::kRouters); });
    m.def("build", &build);
    m.def("floor_seconds", &dcsim::floor_seconds, "events"_a, "live"_a, "rows"_a, nb::call_guard<nb::gil_scoped_release>());
    nb::class_<dcsim::Forest>(m, "Forest")
        .def("__init__", [](dcsim::Forest* f, const Array1& start, const Array1& blocks) { new (f) dcsim::Forest(span(start), span(blocks)); },
             "start"_a.noconvert(), "blocks"_a.noconvert())
        .def_prop_ro("blocks", &dcsim::Forest::blocks)
        .def_prop_ro("parent", [](const dcsim::Forest& f) { return run_column(f, &dcsim::Forest::Run::parent); })
        .def_prop_ro("length", [](const dcsim::Forest& f) { return run_column(f, &dcsim::Forest::Run::blocks); })
        .def_prop_ro("above", [](const dcsim::Forest& f) { return run_column(f, &dcsim::Forest::Run::above); })
        .def_prop_ro("ends", [](const dcsim::Forest& f) { return numpy(std::vector<i64>(f.ends().begin(), f.ends().end()), {f.ends().size()}); })
        .def("hits", &replay, "policy"_a, "capacity"_a)
        .def("lru_hits", &lru_hits, "counted"_a.noconvert());
    nb::class_<PyEngine>(m, "Engine")
        .def(nb::init<const nb::dict&, i64, i64, bool, i64, const nb::dict&>(), "tables"_a, "horizon"_a, "bin"_a, "lifted"_a = false,
             "threads"_a = 0, "routers"_a = nb::dict())
        .def_prop_ro("now", [](PyEngine& p) { return p.with([](dcsim::Team& e) { return e.now(); }); })
        .def_prop_ro("arrived", [](PyEngine& p) { return p.with([](dcsim::Team& e) { return e.arrived(); }); })
        .def_prop_ro("completed", [](PyEngine& p) { return p.with([](dcsim::Team& e) { return e.completed(); }); })
        .def("run_until", &PyEngine::run_until, "t"_a)
        .def("fail", [](PyEngine& p, std::size_t r) { p.with([r](dcsim::Team& e) { e.of_replica(r).fail(r); }); }, "replica"_a)
        .def("start", [](PyEngine& p, std::size_t r) { p.with([r](dcsim::Team& e) { e.of_replica(r).start(r); }); }, "replica"_a)
        .def("set_capacity", [](PyEngine& p, i64 pool, i64 bytes) {
            p.with([pool, bytes](dcsim::Team& e) { e.of_pool(pool).set_capacity(pool, bytes); });
        }, "pool"_a, "bytes"_a)
        .def("used", [](PyEngine& p, i64 pool) { return p.with([pool](dcsim::Team& e) { return e.of_pool(pool).used(pool); }); }, "pool"_a)
        .def("capacity", [](PyEngine& p, i64 pool) { return p.with([pool](dcsim::Team& e) { return e.of_pool(pool).capacity(pool); }); }, "pool"_a)
        .def("state", [](PyEngine& p, std::size_t r) { return p.with([r](dcsim::Team& e) { return e.of_replica(r).state(r); }); }, "replica"_a)
        .def("running", [](PyEngine& p, std::size_t r) { return p.with([r](dcsim::Team& e) { return e.of_replica(r).running(r); }); }, "replica"_a)
        .def("waiting", [](PyEngine& p, std::size_t r) { return p.with([r](dcsim::Team& e) { return e.of_replica(r).waiting(r); }); }, "replica"_a)
        .def("give", &PyEngine::give, "requests"_a)
        .def("take", &PyEngine::take)
        .def("stuck", [](PyEngine& p) {
            return p.with([](dcsim::Team& e) -> nb::object {
                const auto found = e.stuck();
                if (!found) return nb::none();
                return nb::make_tuple(found->replica, found->request, found->giver, found->taker);
            });
        })
        .def("finish", &PyEngine::finish);
}
