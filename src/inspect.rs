//! Is it an image, and is it whole?
