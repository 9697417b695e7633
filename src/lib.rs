//! pixchute: drop a picture in a folder, get its link out.
//!
//! This page is the map of the program. `tests/layering.rs` reads its tables and fails when the code does otherwise.
//!
//! # One direction
//!
//! ```text
//!  folders ─▶ watch ─▶ settle ─▶ inspect ─▶ ledger ─▶ schedule ─▶ upload ─▶ record ─▶ shelf
//!             hints    quiet?    image?     waits     who, when   one        manifest  done/ retry/ failed/
//!                                           on disk   (flow)      attempt    sidecar
//! ```
//!
//! A file goes from left to right. No stage calls the next one: each is a module that can be read and tested alone, and
//! [`agent`] carries what comes out of one into the other, through bounded channels. [`control`] and [`cli`] ask the agent
//! and read the ledger; no stage knows them.
//!
//! # Modules
//!
//! "May use" is complete: an arrow that is not in the table is refused, and so is one in the table that the code does not
//! need. The arrows have no cycle.
//!
//! | module | owns, and must not | may use |
//! |---|---|---|
//! | [`job`] | what a job is: id, fingerprint, stages, outcome, failure; which stage follows which event: one total function, used live and on recovery. No I/O | `clock` |
//! | [`panics`] | which panics end the process | – |
//! | [`clock`] | the only place that asks the machine what time it is | – |
//! | [`backoff`] | how long to wait: pure, the jitter is passed in | – |
//! | [`config`] | TOML to checked types; every message about a mistake; where secrets come from, and the programs that give some. Starts nothing else | `backoff` `job` |
//! | [`watch`] | the only user of `notify`; scans, polling, drop folders that come and go; asks `settle` and `inspect` until a file is complete. Writes nothing, decides nothing about jobs | `clock` `config` `inspect` `job` `settle` |
//! | [`settle`] | when a file is complete: sightings, looks and the time in, verdicts out. Pure | `clock` `job` |
//! | [`inspect`] | type by content, dimensions, end marker, hash: from one open descriptor. Decodes no pixel | `clock` `job` `settle` |
//! | [`ledger`] | what is remembered over restarts; the only SQL; one writer thread that commits in groups. Decides nothing | `clock` `job` `panics` |
//! | [`flow`] | how much one host may be given: window, rate and quota, rests, circuit, what its line carries; and how many workers there are. Pure | `backoff` `config` `job` |
//! | [`schedule`] | who is sent next, and when: inputs in, commands out. Pure | `flow` `job` |
//! | [`host`] | recipes, their one engine, the `local` host; the only user of `reqwest`; an answer becomes links or a failure. Retries requests, never whole files; knows no drop folder | `clock` `config` `job` `shelf` |
//! | [`upload`] | one attempt, told top to bottom, under its hard deadline | `clock` `host` `job` |
//! | [`record`] | what is written about a file: manifest, sidecar, and the ledger's rows back from them | `clock` `config` `job` `shelf` |
//! | [`render`] | texts with links in them: formats, templates, escaping, link files. Reads manifests, asks nobody | `clock` `config` `job` `record` `shelf` |
//! | [`shelf`] | the only code that creates, moves, links or removes a user's file. Never overwrites one | `job` |
//! | [`telemetry`] | the table of events, and where the log goes | `clock` `config` `job` |
//! | [`service`] | what a service manager needs: units, plists, which of them the user has changed. Runs no command | `config` `shelf` |
//! | [`control`] | the socket of the commands, the gallery, the model of the status. Changes nothing itself: it asks the agent | `clock` `host` `job` `ledger` `record` `telemetry` |
//! | [`agent`] | wiring: channels, tasks, the order of start and shutdown; the only place that spawns tasks; what follows from an outcome | `backoff` `clock` `config` `control` `flow` `host` `inspect` `job` `ledger` `panics` `record` `render` `schedule` `shelf` `telemetry` `upload` `watch` |
//! | [`doctor`] | whether this machine is fit for the agent: questions that change nothing, each with its deadline and remedy | `clock` `config` `control` `host` `job` `ledger` `shelf` `watch` |
//! | [`cli`] | arguments, exit codes, what is printed: a file per command. No logic of its own | `agent` `clock` `config` `control` `doctor` `host` `inspect` `job` `ledger` `panics` `record` `render` `service` `telemetry` |
//!
//! Three arrows are not obvious. `inspect` speaks the words of `settle` (what a look has seen), so that `settle` stays pure.
//! `record` and `host` use `shelf` for its way of writing a file whole or not at all. `record` needs a folder's `config` to
//! know, when a ledger is rebuilt, which places in it are ours.
//!
//! # Who alone may
//!
//! | what | where |
//! |---|---|
//! | `notify::` | `watch/` |
//! | `reqwest` | `host/` |
//! | `rusqlite` | `ledger/` |
//! | `axum` | `control/` |
//! | `tokio::spawn` `task::spawn(` `tracker.spawn` `TaskTracker` `JoinSet` | `agent/` |
//! | `sd_notify` | `agent/` |
//! | `fs::rename` `renameat` `hard_link` `linkat` `remove_file` `remove_dir` `unlink` | `shelf.rs` and `shelf/probe.rs`; `ledger/sqlite/files.rs` for a damaged ledger and `control/server.rs` for the socket: no user's files |
//! | `fs::symlink(` | `shelf/link.rs` |
//! | `SystemTime::now` `Timestamp::now` `Zoned::now` | `clock.rs` |
//! | `std::time::Instant` `unbounded` | – |
//!
//! # Words
//!
//! The same in code, configuration, log, ledger and folders.
//!
//! | word | meaning |
//! |---|---|
//! | drop folder | a watched folder (`[[folder]]`) |
//! | sighting | "something may have happened to this path": an event or a name in a scan. Only ever a hint |
//! | settled | the file is complete and nobody writes to it |
//! | job | one settled file on its way to its host or hosts |
//! | trip | the hosts of one file, and how each stands to it |
//! | attempt | one try of one job under its file deadline; tries of single requests happen inside it |
//! | worker | a place in the bounded pool: held while an attempt moves bytes |
//! | parked | an attempt that stands still while others need its worker: it goes on without one |
//! | late | a parked attempt that also gave up its place in the window of its host |
//! | queue | jobs in memory that wait for a worker; bounded. All others wait in the ledger or in the folder |
//! | window | how many attempts one host may have at a time |
//! | host | a named destination (`[host.NAME]`); `SERVICE` in the log |
//! | recipe | the description of a host's protocol: TOML, built in or the user's own |
//! | cooldown | the rest of a job after a time-out or another passing failure |
//! | ledger | what survives a restart: SQLite |
//! | manifest | append-only JSON Lines file of outcomes, one per drop folder |
//! | sidecar | the same record beside one image: `IMG.jpg.json` |
//!
//! # Decisions
//!
//! 1. **Events are hints, the folder is the truth, the ledger is the memory.** A lost, doubled or late event changes when a
//!    file is found, and nothing else. Start, overflow, a folder that comes back and a slow timer run the same scan; every
//!    directory is watched before it is listed.
//! 2. **The backlog lives on disk.** Memory holds the queue and what is in flight, whatever the folder holds. A feed is
//!    pulled: no file is opened, not even `stat`ed, before its turn.
//! 3. **Intent before effect, result before bookkeeping.** `started` is in the ledger before the first byte is sent. A
//!    result goes to the ledger, then to the manifest (synced), then to the sidecar, then the file is moved, then `done` is
//!    written. Every step may be repeated after a crash. No worker waits for a sync: one recorder commits what has gathered.
//! 4. **The move is bookkeeping.** If a file cannot be moved, its record and its cooldown stand all the same.
//! 5. **A failed upload is a value, not an `Err`.** [`job::Failure::disposition`] says what it means, one function in the
//!    agent what follows. `Err` is for our own trouble.
//! 6. **Cancel means cancel.** An attempt is a future. Its deadline or the end of the agent drops it, and dropping it closes
//!    the socket and the file. A panic in one attempt is that file's failure.
//! 7. **A host is data.** A recipe names steps, fields, extractors, limits and the meaning of errors; one engine runs all of
//!    them. Only the `local` host is code.
//! 8. **A worker is for moving bytes.** Hosts take turns; each has a window that opens with success. An attempt that stands
//!    still gives its worker to a job that can use it, and a late one its place in the window too. Both are bounded, so
//!    silent hosts cost the others a moment and never the pool. See [`schedule`].
//! 9. **Two clocks.** Deadlines are monotonic and in memory; rests are wall time, in the ledger, and never last longer than
//!    configured, whatever the clock does.
//! 10. **Names are data.** File names are made safe before they go on the wire, into a log line or into markup; names from
//!     the wire never become paths.
//!
//! The states of a file, and what is done about each after a crash, stand in [`shelf`].

pub mod job;

pub mod backoff;
pub mod clock;
pub mod config;
pub mod panics;

pub mod watch;

pub mod settle;

pub mod inspect;

pub mod ledger;

pub mod flow;
pub mod schedule;

pub mod host;
pub mod upload;

pub mod record;

pub mod render;

pub mod shelf;

pub mod agent;
pub mod control;
pub mod service;
pub mod telemetry;

pub mod doctor;

pub mod cli;
