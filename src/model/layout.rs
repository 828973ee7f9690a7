//! Where each parameter lies in the flat buffer.
//!
//! Weights, gradient sums and optimizer state are flat buffers over all
//! parameters. Their order is the byte order of the parameters' names, because
//! that is the one order every process can find on its own.

use std::ops::Range;

/// The most values that all parameters together may hold: 8 GiB of weights. A replica has to fit
/// into one device together with its gradients, sums and moments; none that does is larger.
pub const ELEMENTS_MAX: usize = 1 << 31;

/// A parameter: its name, its shape, and where its values lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Path of the variable, such as `dense_0.weight`.
    pub name: String,
    /// Dimensions, row-major.
    pub shape: Vec<usize>,
    /// Elements in the flat buffer.
    pub range: Range<usize>,
}

/// A set of parameters that has no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The model created no variable at all.
    #[error("the model has no parameters: its `new` asked the VarBuilder for no variable")]
    NoParameters,
    /// One name twice.
    #[error("parameter {name:?} stands twice in the layout")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A shape with a zero in it, or too large to be counted.
    #[error("parameter {name:?} of shape {shape:?} has no elements, or too many to count")]
    BadShape {
        /// The parameter.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// An empty name, or one with a zero byte in it: the weights' digest puts a
    /// zero byte behind each name.
    #[error("{name:?} is no name for a parameter: it is empty or contains a zero byte")]
    BadName {
        /// The name.
        name: String,
    },
}

/// All parameters in byte order of their names, with consecutive ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterLayout {
    parameters: Vec<Parameter>,
    elements: usize,
}

impl ParameterLayout {
    /// Lays out parameters given in any order.
    ///
    /// # Errors
    /// When the set is empty or a name or shape makes no parameter.
    pub fn new(
        parameters: impl IntoIterator<Item = (String, Vec<usize>)>,
    ) -> Result<Self, LayoutError> {
        let mut named: Vec<(String, Vec<usize>)> = parameters.into_iter().collect();
        if named.is_empty() {
            return Err(LayoutError::NoParameters);
        }
        named.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        if let Some(pair) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(LayoutError::Duplicate {
                name: pair[0].0.clone(),
            });
        }
        let mut elements = 0usize;
        let mut parameters = Vec::with_capacity(named.len());
        for (name, shape) in named {
            if name.is_empty() || name.as_bytes().contains(&0) {
                return Err(LayoutError::BadName { name });
            }
            let end = shape
                .iter()
                .try_fold(1usize, |count, &size| count.checked_mul(size))
                .filter(|&count| count > 0)
                .and_then(|count| elements.checked_add(count));
            let Some(end) = end else {
                return Err(LayoutError::BadShape { name, shape });
            };
            parameters.push(Parameter {
                name,
                shape,
                range: elements..end,
            });
            elements = end;
        }
        Ok(ParameterLayout {
            parameters,
            elements,
        })
    }

    /// Number of parameters (tensors, not elements).
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Never: a layout has at least one parameter.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Elements of all parameters together: the length of the flat buffers.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The parameters in byte order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.parameters.iter()
    }

    /// The parameters in byte order of their names.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Position of a parameter in the order.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.parameters
            .binary_search_by(|parameter| parameter.name.as_bytes().cmp(name.as_bytes()))
            .ok()
    }

    /// A parameter by its name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.index_of(name).map(|index| &self.parameters[index])
    }

    /// The parameter that flat element `element` belongs to.
    pub fn at(&self, element: usize) -> Option<&Parameter> {
        let index = self
            .parameters
            .partition_point(|parameter| parameter.range.end <= element);
        self.parameters.get(index)
    }
}

impl<'a> IntoIterator for &'a ParameterLayout {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(parameters: &[(&str, &[usize])]) -> Result<ParameterLayout, LayoutError> {
        ParameterLayout::new(
            parameters
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), shape.to_vec())),
        )
    }

    #[test]
    fn parameters_stand_in_byte_order_with_consecutive_ranges() {
        // Byte order, not that of a person: '1' < '_' < 'a', and "b10" < "b2".
        let layout = layout(&[
            ("b2", &[2, 3]),
            ("a", &[]),
            ("b10", &[4]),
            ("_", &[1]),
            ("1", &[2]),
        ])
        .unwrap();
        let order: Vec<_> = layout
            .iter()
            .map(|p| (p.name.as_str(), p.range.clone()))
            .collect();
        assert_eq!(
            order,
            [
                ("1", 0..2),
                ("_", 2..3),
                ("a", 3..4),
                ("b10", 4..8),
                ("b2", 8..14)
            ]
        );
        assert_eq!(layout.elements(), 14);
        assert_eq!(layout.get("b10").unwrap().shape, [4]);
        assert_eq!(layout.get("c"), None);
        assert_eq!(layout.at(7).unwrap().name, "b10");
        assert_eq!(layout.at(8).unwrap().name, "b2");
        assert_eq!(layout.at(14), None);
    }

    #[test]
    fn sets_without_a_layout_are_refused_by_name() {
        assert_eq!(layout(&[]), Err(LayoutError::NoParameters));
        assert!(matches!(
            layout(&[("w", &[1]), ("w", &[1])]),
            Err(LayoutError::Duplicate { name }) if name == "w"
        ));
        for shape in [&[3, 0][..], &[usize::MAX, 2]] {
            assert!(matches!(
                layout(&[("v", &[1]), ("w", shape)]),
                Err(LayoutError::BadShape { name, .. }) if name == "w"
            ));
        }
        for name in ["", "a\0b"] {
            assert!(matches!(
                layout(&[(name, &[1])]),
                Err(LayoutError::BadName { .. })
            ));
        }
    }
}
