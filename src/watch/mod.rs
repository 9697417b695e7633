//! Notices that something may have happened in a drop folder.
