//! Is the file complete, and does nobody write to it?
