//! Tuples of values of which some may be missing, for the passes that report every problem at once.

/// A value that is either present or has been reported as a problem.
pub trait Part {
    /// The value itself.
    type Value;

    /// Returns the value, unless it was a problem.
    fn into_value(self) -> Option<Self::Value>;
}

impl<T> Part for Option<T> {
    type Value = T;

    fn into_value(self) -> Self {
        self
    }
}

/// One [`Part`], or a tuple of up to twelve.
pub trait Parts {
    /// The value, or the tuple of values.
    type Values;

    /// Returns all values, or `None` if one is missing.
    fn into_values(self) -> Option<Self::Values>;
}

impl<P: Part> Parts for P {
    type Values = P::Value;

    fn into_values(self) -> Option<P::Value> {
        self.into_value()
    }
}

macro_rules! tuples {
    ($first:ident $($rest:ident)+) => {
        impl<$first: Part, $($rest: Part),+> Parts for ($first, $($rest),+) {
            type Values = ($first::Value, $($rest::Value),+);

            fn into_values(self) -> Option<Self::Values> {
                #[expect(non_snake_case, reason = "values are named after their types")]
                let ($first, $($rest),+) = self;
                Some(($first.into_value()?, $($rest.into_value()?),+))
            }
        }
        tuples!($($rest)+);
    };
    ($last:ident) => {};
}

tuples!(A B C D E F G H I J K L);
