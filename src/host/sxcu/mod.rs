//! ShareX custom uploaders.
mod codes;
mod era;
mod eval;
mod file;
mod json;
mod jsonpath;
mod regexp;
mod syntax;
mod xpath;
