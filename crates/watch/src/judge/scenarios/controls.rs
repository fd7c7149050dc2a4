//! Each rule of the judge is needed: without it, a case of the tables goes wrong.
