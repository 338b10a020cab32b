//! `citychain._native.places`; its types stand in `citychain/_native/places.pyi`.

use citychain_core::places as core;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use crate::arguments::same_length;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Places>()?;
    module.add_class::<Features>()?;
    module.add_function(wrap_pyfunction!(chord_squared, module)?)
}

/// Regions, and which of them a point lies in.
///
/// Args:
///     regions: Each a disc, `(latitude_e7, longitude_e7, radius_m)`, or a list of polygons: lists
///         of rings, the shell first, `[latitude_e7, longitude_e7, ...]` each and closed.
///
/// Raises:
///     ValueError: a region is none: names it by its index.
#[pyclass(module = "citychain._native.places", frozen)]
struct Places(core::Places);

#[pymethods]
impl Places {
    #[new]
    fn new(py: Python<'_>, regions: Vec<Bound<'_, PyAny>>) -> PyResult<Self> {
        let raw: Vec<RawRegion> = regions
            .iter()
            .enumerate()
            .map(|(index, region)| RawRegion::from_python(index, region))
            .collect::<PyResult<_>>()?;
        py.detach(|| {
            let checked = |(index, region): (usize, RawRegion)| region.check(index);
            let regions: Result<Vec<_>, String> =
                raw.into_iter().enumerate().map(checked).collect();
            regions.map(|regions| Self(core::Places::new(&regions)))
        })
        .map_err(PyValueError::new_err)
    }

    /// The region of each point: the smallest index of those that have it, -1 for none.
    ///
    /// Args:
    ///     latitudes: Units of 1e-7 degree: an `array("i")` or another buffer of 32-bit integers,
    ///         which is fastest, or a sequence.
    ///     longitudes: As many.
    ///
    /// Returns:
    ///     An `array("i")`.
    ///
    /// Raises:
    ///     ValueError: a position is not on the earth, or the lengths differ.
    ///     TypeError: an argument is bytes, of which nobody says what they mean.
    fn locate<'py>(
        &self,
        py: Python<'py>,
        latitudes: &Bound<'py, PyAny>,
        longitudes: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let latitudes = integers("latitudes", latitudes)?;
        let longitudes = integers("longitudes", longitudes)?;
        same_length("longitudes", longitudes.len(), "latitudes", latitudes.len())?;
        let found = py.detach(|| {
            let mut found = Vec::with_capacity(4 * latitudes.len());
            for (index, (&latitude, &longitude)) in latitudes.iter().zip(&longitudes).enumerate() {
                let point = core::Position::new(latitude, longitude).ok_or(index)?;
                let region = self.0.locate(point).map_or(-1, |region| region as i32);
                found.extend_from_slice(&region.to_ne_bytes());
            }
            Ok(found)
        });
        let found = found.map_err(|index: usize| {
            PyValueError::new_err(format!("position {index} is not on the earth"))
        })?;
        py.import("array")?
            .getattr("array")?
            .call1(("i", PyBytes::new(py, &found)))
    }

    /// Whether a region has a point, whatever other regions do.
    ///
    /// Raises:
    ///     IndexError: there is no such region.
    ///     ValueError: the position is not on the earth.
    fn contains(&self, index: usize, latitude_e7: i32, longitude_e7: i32) -> PyResult<bool> {
        let point = position(latitude_e7, longitude_e7)?;
        if index >= self.0.len() {
            return Err(PyIndexError::new_err(format!("there is no region {index}")));
        }
        Ok(self.0.contains(index as u32, point))
    }

    /// Number of regions.
    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __repr__(&self) -> String {
        format!("Places(<{} regions>)", self.0.len())
    }
}

/// The regions of a GeoJSON file: a FeatureCollection of Polygons and MultiPolygons in WGS 84.
///
/// Args:
///     file: Its bytes.
///     code_property: Features with the same value of this property are one region; those without
///         any are one each.
///     name_properties: Their values, with spaces between, are a region's name.
///
/// Raises:
///     ValueError: it is no such file, or a ring is bad: names the feature.
#[pyclass(module = "citychain._native.places", frozen)]
struct Features(core::geojson::Features);

#[pymethods]
impl Features {
    #[new]
    #[pyo3(signature = (file, code_property, name_properties=Vec::new()), text_signature = "(file, code_property, name_properties=())")]
    fn new(
        py: Python<'_>,
        file: &[u8],
        code_property: &str,
        name_properties: Vec<String>,
    ) -> PyResult<Self> {
        py.detach(|| core::geojson::Features::read(file, code_property, &name_properties))
            .map(Self)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// The code of each region, in the file's order; `None` for one without.
    #[getter]
    fn codes(&self) -> Vec<Option<&str>> {
        self.0.0.iter().map(|it| it.code.as_deref()).collect()
    }

    /// The name of each region; `None` for one without.
    #[getter]
    fn names(&self) -> Vec<Option<&str>> {
        self.0.0.iter().map(|it| it.name.as_deref()).collect()
    }

    /// A region's polygons, as `Places` takes them.
    ///
    /// Raises:
    ///     IndexError: there is no such region.
    fn polygons(&self, index: usize) -> PyResult<Vec<Vec<Vec<i32>>>> {
        self.check(index)?;
        Ok(self.0.0[index].rings.clone())
    }

    /// Indexes of other regions that may have a common border with this one: the box around one of
    /// their polygons touches that around one of its.
    ///
    /// Raises:
    ///     IndexError: there is no such region.
    fn touching(&self, index: usize) -> PyResult<Vec<usize>> {
        self.check(index)?;
        Ok(self.0.touching(index))
    }

    /// All regions, to look points up in; indexes are as here.
    fn places(&self, py: Python<'_>) -> Places {
        Places(py.detach(|| self.0.places()))
    }

    /// Number of regions.
    fn __len__(&self) -> usize {
        self.0.0.len()
    }

    fn __repr__(&self) -> String {
        format!("Features(<{} regions>)", self.0.0.len())
    }
}

impl Features {
    fn check(&self, index: usize) -> PyResult<()> {
        if index < self.0.0.len() {
            return Ok(());
        }
        Err(PyIndexError::new_err(format!("there is no region {index}")))
    }
}

/// The squared chord between two positions, `(latitude_e7, longitude_e7)` each, in whole square
/// metres, rounded down.
///
/// Raises:
///     ValueError: a position is not on the earth.
#[pyfunction]
fn chord_squared(a: (i32, i32), b: (i32, i32)) -> PyResult<u64> {
    Ok(core::chord_squared(
        position(a.0, a.1)?,
        position(b.0, b.1)?,
    ))
}

/// A region as Python gives it.
enum RawRegion {
    Disc(i32, i32, u32),
    Polygons(Vec<Vec<Vec<i32>>>),
}

impl RawRegion {
    fn from_python(index: usize, region: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok((latitude, longitude, radius_m)) = region.extract() {
            return Ok(Self::Disc(latitude, longitude, radius_m));
        }
        region.extract().map(Self::Polygons).map_err(|_| {
            PyValueError::new_err(format!(
                "region {index} is neither (latitude_e7, longitude_e7, radius_m) nor a list of \
                 polygons, each a list of rings, each a list of 32-bit integers"
            ))
        })
    }

    fn check(self, index: usize) -> Result<core::Region, String> {
        match self {
            Self::Disc(latitude, longitude, radius_m) => {
                let max = core::sphere::DISC_RADIUS_M_MAX;
                let centre = core::Position::new(latitude, longitude)
                    .ok_or_else(|| format!("region {index}: its centre is not on the earth"))?;
                if !(1..=max).contains(&radius_m) {
                    return Err(format!(
                        "region {index}: its radius is not from 1 to {max} m"
                    ));
                }
                Ok(core::Region::Disc { centre, radius_m })
            }
            Self::Polygons(polygons) => {
                let checked = |(number, rings): (usize, &Vec<Vec<i32>>)| {
                    core::Polygon::new(rings)
                        .map_err(|fault| format!("region {index}: polygon {number}: {fault}"))
                };
                let polygons = polygons.iter().enumerate().map(checked);
                polygons
                    .collect::<Result<_, _>>()
                    .map(core::Region::Polygons)
            }
        }
    }
}

fn position(latitude_e7: i32, longitude_e7: i32) -> PyResult<core::Position> {
    core::Position::new(latitude_e7, longitude_e7).ok_or_else(|| {
        PyValueError::new_err(format!(
            "latitude {latitude_e7}, longitude {longitude_e7} is not on the earth: in units of 1e-7 \
             degree, latitude is from -90 to 90 degrees, longitude from -180 to 180"
        ))
    })
}

fn integers(name: &str, values: &Bound<'_, PyAny>) -> PyResult<Vec<i32>> {
    if values.is_instance_of::<PyBytes>() || values.is_instance_of::<PyByteArray>() {
        let message = format!("{name} is bytes: write memoryview({name}).cast('i')");
        return Err(PyTypeError::new_err(message));
    }
    match PyBuffer::<i32>::get(values) {
        Ok(buffer) => buffer.to_vec(values.py()),
        Err(_) => values.extract(),
    }
}
