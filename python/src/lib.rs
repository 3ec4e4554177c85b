//! The Python package's compiled part: opens a model and answers. `knockline/__init__.py` is its face.

use std::path::Path;

use failure::Failure;
use model::{Engine, Model};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;

pyo3::create_exception!(
    knockline,
    KnocklineError,
    PyException,
    "What is wrong, where, and what to do."
);

fn raised(failure: Failure) -> PyErr {
    KnocklineError::new_err(failure.to_string())
}

/// A model.
#[pyclass(frozen)]
struct RawModel(Model);

#[pymethods]
impl RawModel {
    #[new]
    fn new(py: Python<'_>, path: &str) -> PyResult<Self> {
        py.detach(|| Model::open(Path::new(path))).map(Self).map_err(raised)
    }

    fn labels(&self) -> Vec<String> {
        self.0.labels().names().to_vec()
    }

    /// The probabilities, and whether anything of each text is known.
    #[expect(clippy::type_complexity, reason = "a matrix and a vector")]
    fn predict_proba<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
    ) -> PyResult<(Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<bool>>)> {
        let classes = self.0.labels().len();
        let answered = py.detach(|| {
            let engine = Engine::new(&self.0);
            engine.answer(&texts, |answered, (all, known): &mut (Vec<f32>, Vec<bool>)| {
                all.extend_from_slice(answered.probabilities);
                known.extend(answered.known.iter().map(|known| known.anything));
                Ok(())
            })
        });
        let (mut all, mut known) = (Vec::with_capacity(texts.len() * classes), Vec::new());
        for (mut p, mut k) in answered.map_err(raised)? {
            all.append(&mut p);
            known.append(&mut k);
        }
        let all = Array2::from_shape_vec((texts.len(), classes), all)
            .map_err(|e| KnocklineError::new_err(e.to_string()))?;
        Ok((all.into_pyarray(py), known.into_pyarray(py)))
    }

    fn explain<'py>(&self, py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyDict>> {
        let explained = py.detach(|| self.0.desk().explain(text)).map_err(raised)?;
        let labels = self.0.labels();
        let by_label = |values: &[f32]| -> PyResult<Bound<'py, PyDict>> {
            let all = PyDict::new(py);
            for (label, value) in labels.names().iter().zip(values) {
                all.set_item(label, value)?;
            }
            Ok(all)
        };
        let all = PyDict::new(py);
        let label = explained.known.anything.then(|| labels.name(explained.label()));
        all.set_item("label", label)?;
        all.set_item("probabilities", by_label(&explained.probabilities)?)?;
        all.set_item("method", explained.method.name())?;
        let mut words = Vec::new();
        for word in &explained.words {
            let one = PyDict::new(py);
            one.set_item("word", text.get(word.place.clone()))?;
            one.set_item("start", word.place.start)?;
            one.set_item("end", word.place.end)?;
            one.set_item("contributions", by_label(&word.margins)?)?;
            words.push(one);
        }
        all.set_item("words", words)?;
        Ok(all)
    }

    fn description<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let text = serde_json::to_string(self.0.description())
            .map_err(|e| KnocklineError::new_err(e.to_string()))?;
        py.import("json")?.call_method1("loads", (text,))
    }
}

#[pymodule]
fn _knockline(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("KnocklineError", module.py().get_type::<KnocklineError>())?;
    module.add_class::<RawModel>()
}
