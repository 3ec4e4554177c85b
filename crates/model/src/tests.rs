//! Tests of whole models.
