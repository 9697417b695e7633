//! A ledger in a map: nothing survives. For tests under a paused clock, where a database's own thread would let virtual
//! time run ahead.
