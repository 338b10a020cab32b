//! Regions from GeoJSON (RFC 7946).
//!
//! A file is a FeatureCollection of Polygons and MultiPolygons in WGS 84. A coordinate in degrees
//! becomes `round(degrees * 1e7)` in IEEE 754 double precision, ties to even; an altitude is left
//! out. All features of one code are one region, which stands where the first of them does; a
//! feature without a code is a region of its own.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Bounds, Error, Fault, Places, Polygon, Region};

/// What names WGS 84 with longitude first; it is GeoJSON's own since RFC 7946.
const WGS_84: [&str; 8] = [
    "urn:ogc:def:crs:OGC:1.3:CRS84",
    "urn:ogc:def:crs:OGC::CRS84",
    "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "OGC:CRS84",
    "CRS84",
    "EPSG:4326",
    "urn:ogc:def:crs:EPSG::4326",
    "http://www.opengis.net/def/crs/EPSG/0/4326",
];

/// A region of a file.
pub struct Feature {
    /// The property that groups features; nothing if it is missing or null.
    pub code: Option<String>,
    /// The properties that name it, with spaces between.
    pub name: Option<String>,
    /// Flat rings of each polygon, as they were checked.
    pub rings: Vec<Vec<Vec<i32>>>,
    polygons: Vec<Polygon>,
}

/// The regions of a file.
pub struct Features(pub Vec<Feature>);

impl Features {
    /// Reads a file.
    ///
    /// # Errors
    /// It is no such GeoJSON, or a ring is bad; names the feature.
    pub fn read(file: &[u8], code: &str, names: &[String]) -> Result<Self, Error> {
        let collection: Collection = serde_json::from_slice(file)
            .map_err(|error| Error(format!("it is no GeoJSON FeatureCollection: {error}")))?;
        if collection.kind != "FeatureCollection" {
            let kind = collection.kind;
            return Err(Error(format!("it is a {kind}, not a FeatureCollection")));
        }
        check_crs(collection.crs)?;
        let mut features: Vec<Feature> = Vec::new();
        let mut by_code: HashMap<String, usize> = HashMap::new();
        for (index, raw) in collection.features.into_iter().enumerate() {
            let feature = raw
                .read(code, names)
                .map_err(|why| Error(format!("feature {index}{why}")))?;
            if let Some(code) = &feature.code {
                if let Some(&known) = by_code.get(code) {
                    let known = &mut features[known];
                    known.rings.extend(feature.rings);
                    known.polygons.extend(feature.polygons);
                    continue;
                }
                by_code.insert(code.clone(), features.len());
            }
            features.push(feature);
        }
        Ok(Self(features))
    }

    /// All of them, indexed.
    pub fn places(&self) -> Places {
        let regions = self
            .0
            .iter()
            .map(|it| Region::Polygons(it.polygons.clone()));
        Places::new(&regions.collect::<Vec<_>>())
    }

    /// Other regions of which the box around some polygon touches that around one of this.
    pub fn touching(&self, index: usize) -> Vec<usize> {
        let boxes = |index: usize| self.0[index].polygons.iter().map(|it| it.bounds);
        let own: Vec<Bounds> = boxes(index).collect();
        let touches = |other: Bounds| own.iter().any(|it| it.touches(&other));
        (0..self.0.len())
            .filter(|&other| other != index && boxes(other).any(touches))
            .collect()
    }
}

#[derive(Deserialize)]
struct Collection<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    crs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    features: Vec<RawFeature<'a>>,
}

#[derive(Deserialize)]
struct RawFeature<'a> {
    #[serde(borrow)]
    geometry: Option<RawGeometry<'a>>,
    #[serde(borrow)]
    properties: Option<HashMap<Cow<'a, str>, &'a RawValue>>,
}

#[derive(Deserialize)]
struct RawGeometry<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    coordinates: Option<&'a RawValue>,
}

impl RawFeature<'_> {
    /// The feature, or the end of a sentence that begins with its index.
    fn read(&self, code: &str, names: &[String]) -> Result<Feature, String> {
        let code = self.property(code)?;
        let parts: Result<Vec<_>, _> = names.iter().map(|name| self.property(name)).collect();
        let parts: Vec<String> = parts?.into_iter().flatten().collect();
        let name = (!parts.is_empty()).then(|| parts.join(" "));
        let who: Vec<&str> = [&code, &name]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let who = if who.is_empty() {
            String::new()
        } else {
            format!(" ({})", who.join(", "))
        };
        let geometry = self.geometry.as_ref();
        let rings = geometry
            .ok_or_else(|| "it has no geometry".to_owned())
            .and_then(RawGeometry::polygons)
            .map_err(|why| format!("{who}: {why}"))?;
        let checked = |(number, rings): (usize, &Vec<Vec<i32>>)| {
            Polygon::new(rings).map_err(|fault: Fault| format!("{who}: polygon {number}: {fault}"))
        };
        let polygons = rings
            .iter()
            .enumerate()
            .map(checked)
            .collect::<Result<_, _>>()?;
        Ok(Feature {
            code,
            name,
            rings,
            polygons,
        })
    }

    fn property(&self, name: &str) -> Result<Option<String>, String> {
        let Some(raw) = self.properties.as_ref().and_then(|it| it.get(name)) else {
            return Ok(None);
        };
        let raw = raw.get();
        let wrong = || format!(": property {name:?} is {raw}, neither text nor a whole number");
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).map(Some).map_err(|_| wrong()),
            Some(b'n') => Ok(None),
            _ => raw
                .parse::<i64>()
                .map(|it| Some(it.to_string()))
                .map_err(|_| wrong()),
        }
    }
}

impl RawGeometry<'_> {
    fn polygons(&self) -> Result<Vec<Vec<Vec<i32>>>, String> {
        let coordinates = self
            .coordinates
            .ok_or("its geometry has no coordinates")?
            .get();
        let read = match self.kind.as_ref() {
            "Polygon" => serde_json::from_str(coordinates).map(|polygon: Vec<Ring>| vec![polygon]),
            "MultiPolygon" => serde_json::from_str::<Vec<Vec<Ring>>>(coordinates),
            other => return Err(format!("it is a {other}, not a Polygon or MultiPolygon")),
        };
        let polygons = read.map_err(|error| format!("its coordinates cannot be read: {error}"))?;
        if polygons.is_empty() {
            return Err("it has no polygon".to_owned());
        }
        let flat = |polygon: Vec<Ring>| polygon.into_iter().map(|ring| ring.0).collect();
        Ok(polygons.into_iter().map(flat).collect())
    }
}

/// A flat ring.
struct Ring(Vec<i32>);

impl<'de> Deserialize<'de> for Ring {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RingVisitor)
    }
}

struct RingVisitor;

impl<'de> Visitor<'de> for RingVisitor {
    type Value = Ring;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ring of positions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut positions: A) -> Result<Ring, A::Error> {
        let mut ring = Vec::new();
        while let Some(Degrees([latitude, longitude])) = positions.next_element()? {
            ring.extend([latitude, longitude]);
        }
        Ok(Ring(ring))
    }
}

/// A position: longitude and latitude in degrees in the file, here units of latitude first.
struct Degrees([i32; 2]);

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(DegreesVisitor)
    }
}

struct DegreesVisitor;

impl<'de> Visitor<'de> for DegreesVisitor {
    type Value = Degrees;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position of 2 or 3 numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Degrees, A::Error> {
        let mut degrees = [0.0_f64; 2];
        for (index, degrees) in degrees.iter_mut().enumerate() {
            let missing = || serde::de::Error::invalid_length(index, &self);
            *degrees = numbers.next_element()?.ok_or_else(missing)?;
        }
        numbers.next_element::<f64>()?;
        if numbers.next_element::<serde::de::IgnoredAny>()?.is_some() {
            return Err(serde::de::Error::invalid_length(4, &self));
        }
        // What is far off the earth becomes the largest integer, and is refused as that.
        let units = |degrees: f64| (degrees * 1e7).round_ties_even() as i32;
        Ok(Degrees([units(degrees[1]), units(degrees[0])]))
    }
}

fn check_crs(crs: Option<&RawValue>) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Crs<'a> {
        #[serde(borrow)]
        properties: Name<'a>,
    }
    #[derive(Deserialize)]
    struct Name<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
    }
    let Some(crs) = crs.map(RawValue::get) else {
        return Ok(());
    };
    let name = serde_json::from_str::<Crs<'_>>(crs).map(|it| it.properties.name);
    match name {
        Ok(name) if WGS_84.contains(&name.as_ref()) => Ok(()),
        Ok(name) => Err(Error(format!(
            "its coordinates are in {name}; only WGS 84 is read (OGC CRS84, EPSG:4326): convert it"
        ))),
        Err(_) => Err(Error(format!(
            "its crs is {crs}, which does not name WGS 84 (OGC CRS84, EPSG:4326)"
        ))),
    }
}
