//! What wit-bindgen makes of the contract. Authors use the types of the crate's root instead.

wit_bindgen::generate!({
    path: "../wit",
    world: "stateful-detector-plugin",
    pub_export_macro: true,
    export_macro_name: "export_raw",
    default_bindings_module: "kaminari_plugin_sdk::bindings",
    generate_all,
});
