;; A detector that looks at nothing and says nothing: what is left of a call is the sandbox. `kaminari plugin bench` holds
;; others against it. All its answers are at address 0, where all is zero: `ok`, and an empty verdict.
(component
  (import "kaminari:plugin/data@0.1.0" (instance $data (export "record-batch" (type (sub resource)))))
  (alias export $data "record-batch" (type $record-batch))

  (core module $module
    (import "" "drop" (func $drop (param i32)))
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 4096))
    (data (i32.const 1024) "empty0.1.0Looks at nothing and says nothing{}")
    (data (i32.const 2048)
      "\00\04\00\00" "\05\00\00\00"
      "\05\04\00\00" "\05\00\00\00"
      "\0a\04\00\00" "\21\00\00\00"
      "\2b\04\00\00" "\02\00\00\00"
      "\00\00\00\00")
    ;; Arguments are forgotten when the call ends.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "describe") (result i32) (i32.const 2048))
    (func (export "configure") (param i32 i32) (result i32)
      (global.set $free (i32.const 4096))
      (i32.const 0))
    (func (export "requires") (param i32 i32 i32 i32) (result i32)
      (global.set $free (i32.const 4096))
      (i32.const 0))
    (func (export "detect") (param i64 i64 i32 i64 i32 i32) (result i32)
      (call $drop (local.get 5))
      (i32.const 0)))

  (core func $drop (canon resource.drop $record-batch))
  (core instance $imports (export "drop" (func $drop)))
  (core instance $instance (instantiate $module (with "" (instance $imports))))
  (alias core export $instance "memory" (core memory $memory))
  (alias core export $instance "realloc" (core func $realloc))

  ;; Types of the contract; an export may only speak of named ones.
  (type $config-error-type (record (field "path" string) (field "message" string)))
  (export $config-error "config-error" (type $config-error-type))
  (type $error-type (variant
    (case "config" $config-error) (case "schema" string) (case "denied" string) (case "not-found" string)
    (case "quota" string) (case "retry" string) (case "other" string)))
  (export $error "error" (type $error-type))
  (type $data-type-type (enum "boolean" "int64" "uint64" "float64" "utf8" "binary" "ip" "timestamp-ns"))
  (export $data-type "data-type" (type $data-type-type))
  (type $field-type (record (field "name" string) (field "ty" $data-type) (field "nullable" bool)))
  (export $field "field" (type $field-type))
  (type $schema-type (record
    (field "fields" (list $field)) (field "metadata" (list (tuple string string)))))
  (export $schema "schema" (type $schema-type))
  (type $window-type (record
    (field "start" u64) (field "end" u64) (field "revision" u32) (field "watermark" u64) (field "partial" bool)))
  (export $window "window" (type $window-type))
  (type $info-type (record
    (field "name" string) (field "version" string) (field "description" string) (field "config-schema" string)
    (field "state-version" u32)))
  (export $info "info" (type $info-type))
  (type $severity-type (enum "info" "low" "medium" "high" "critical"))
  (export $severity "severity" (type $severity-type))
  (type $contribution-type (record
    (field "column" string) (field "weight" f64) (field "observed" f64) (field "expected" f64)))
  (export $contribution "contribution" (type $contribution-type))
  (type $alert-type (record
    (field "row" u32) (field "kind" string) (field "severity" $severity) (field "score" f64) (field "threshold" f64)
    (field "message" string) (field "contributions" (list $contribution))
    (field "attributes" (list (tuple string string)))))
  (export $alert "alert" (type $alert-type))
  (type $verdict-type (record (field "scores" (list f64)) (field "alerts" (list $alert))))
  (export $verdict "verdict" (type $verdict-type))

  (func $describe (result $info)
    (canon lift (core func $instance "describe") (memory $memory)))
  (func $configure (param "config" string) (result (result (error $error)))
    (canon lift (core func $instance "configure") (memory $memory) (realloc $realloc)))
  (func $requires (param "input" $schema) (result (result (error $error)))
    (canon lift (core func $instance "requires") (memory $memory) (realloc $realloc)))
  (func $detect (param "window" $window) (param "features" (borrow $record-batch)) (result (result $verdict (error $error)))
    (canon lift (core func $instance "detect") (memory $memory) (realloc $realloc)))

  (instance $lifecycle
    (export "info" (type $info)) (export "error" (type $error))
    (export "describe" (func $describe)) (export "configure" (func $configure)))
  (export "kaminari:plugin/lifecycle@0.1.0" (instance $lifecycle))
  (instance $detector
    (export "verdict" (type $verdict))
    (export "requires" (func $requires)) (export "detect" (func $detect)))
  (export "kaminari:plugin/detector@0.1.0" (instance $detector)))
